"""`launch`: process 1 of every training pod.

It waits for its peers, begins the attempt, runs torchrun as a child, seals what the ranks write, and reports the result to
the operator. No module in here imports torch, because `launch` must start at once and stay small beside the ranks.

Read `node_run` first: a node's life from top to bottom. `begin` meets the other nodes (`meeting`), fences earlier attempts
(`fencing`), decides what to resume (`resume_decision`) and writes the attempt file. `ranks` runs torchrun and ends it.
`checkpoint_coordinator` says when checkpoints are sealed; `sealing` and `checkpoints` handle the files. Nodes and ranks talk to
each other through `server`, `peers` and `node_roster`, in the messages of `contract.launch_protocol`. `progress_state` and
`attempt_metrics` hold what is shown; `outcome` and `cause` find out how the node ended, for its `ResultRecord`.
"""
