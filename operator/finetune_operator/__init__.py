"""The operator of FineTuneJob resources, and the `finetune` command line.

Layers, lowest first: `api` (the resource) < `plan` (pure decisions) < `kube` (the only Kubernetes client) < `controller`
(what runs in the cluster; its `watch` is the only importer of kopf) < `__main__`. `cli` runs the same plan without a cluster.
"""
