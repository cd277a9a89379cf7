"""The part of the operator that runs in a cluster: watches, a work queue, the reconciler, and what it looks up and writes."""
