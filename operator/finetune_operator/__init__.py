"""The operator of FineTuneJob resources, and the `finetune` command line.

Layers, lowest first: `api` (the resource) < `plan` (pure decisions) < `cluster` (the only Kubernetes client) <
`reconcile` < `handlers` (the only kopf) < `__main__`. `cli` runs the same plan without a cluster.
"""
