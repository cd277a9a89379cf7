"""What runs in the cluster: watches, a queue of jobs, the reconciler, and what it looks up and writes."""
