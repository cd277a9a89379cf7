"""Benchmarks of what this project costs, each figure beside a baseline of the same run. `python -m benchmarks` runs them all.

Nothing here is a test: a busy machine makes every figure worse, the ratios less so. README.md holds the last figures.
"""
