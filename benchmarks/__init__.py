"""What this project costs, each figure beside a baseline of the same run. `python -m benchmarks` runs them all.

Nothing here is a test: a busy machine makes every figure worse, the ratios less. README.md holds the last figures.
"""
