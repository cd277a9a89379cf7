"""`launch`: pid 1 of every training pod.

It waits for its peers, begins the attempt, runs torchrun as a child, seals what the ranks write, and tells the operator
how it went. No module in here imports torch: it must start at once and stay small beside the ranks.
"""
