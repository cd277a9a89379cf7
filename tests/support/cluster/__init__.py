"""A real Kubernetes on this machine, as plain processes.

etcd, API server, controller manager and scheduler, and where asked for also nodes (containerd and kubelet each),
CoreDNS and kube-proxy. `binaries` builds the programs from their Go modules, `control_plane` and `nodes` start them,
`guard` ends them with the process that started them, `client` speaks to a cluster, also to one that was there before.
By hand: `make cluster-up`, `make cluster-down`.
"""
