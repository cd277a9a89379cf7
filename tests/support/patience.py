"""How long tests wait for what is sure to come: so long that no machine is too busy, only so that a hang ends.

No test measures how quick something is: it asserts an order, a count, or that something came before what is slower.
Times are measured by the benchmarks.
"""

PATIENCE_SECONDS = 300.0
