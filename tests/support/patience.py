"""The time that tests wait for what is sure to come: long enough for the busiest machine, and only so that a hang ends.

No test measures how quick something is: it asserts an order, a count, or that one thing came before a slower one.
Times are measured by the benchmarks.
"""

PATIENCE_SECONDS = 300.0
