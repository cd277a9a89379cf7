"""`launch`: pid 1 of every training pod.

It waits for its peers, begins the attempt, runs torchrun as a child, seals what the ranks write, and tells the operator
how it went. No module in here imports torch: it must start at once and stay small beside the ranks.

Read `run` first: a node's life from top to bottom. `begin` meets (`meeting`), fences (`fencing`), decides (`resume`) and writes
the attempt file; `ranks` is torchrun and its end; `saving` says when checkpoints are sealed, `sealing` and `checkpoints` are
the files; `server`, `peers` and `gang` are what nodes and ranks say to each other, in the words of `contract.launch_protocol`;
`board` and `metrics` are what is shown; `outcome` and `cause` are how it ended, in the words of `shared.result_record`.
"""
