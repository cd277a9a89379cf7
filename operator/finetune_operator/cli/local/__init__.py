"""The local backend: a very small cluster that carries out what `plan` decides, with processes in place of pods.

- `supervisor`: the parent process of one pod; ends everything in it when the pod, or `finetune run`, ends
- `processes`:  starts supervisors, finds what an earlier run left behind
- `devices`:    which accelerators there are, and the job as it can run with them
- `volumes`:    claims, ConfigMaps and Secrets as folders; where a pod's paths lie
- `pod_environment`: variables and addresses of a pod's process
- `pod_objects`: Jobs and Pods as the API server would show them
- `cluster`:    carries out actions, shows the objects
- `state`:      what outlives a `finetune run`, and the lock
- `packages`:   a check that the trainer's packages are installed
- `loop`:       observe, decide, act, write status, until the job is over
"""
