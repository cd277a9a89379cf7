"""The part of the operator that runs in a cluster: watches, a work queue, the reconciler, its look-ups and its writes."""
