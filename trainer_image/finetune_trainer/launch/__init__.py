"""`launch`: process 1 of every training pod.

It waits for its peers, begins the attempt, runs torchrun as a child, seals what the ranks write, and reports the result to
the operator. No module in here imports torch, because `launch` must start at once and stay small beside the ranks.

Read `run` first: it is a node's life from top to bottom. `begin` meets the other nodes (`meeting`), fences earlier attempts
(`fencing`), decides what to resume (`resume`) and writes the attempt file. `ranks` runs torchrun and ends it.
`checkpoint_coordinator` says when checkpoints are sealed; `sealing` and `checkpoints` handle the files. `server`, `peers` and
`node_roster` are what nodes and ranks say to each other, in the words of `contract.launch_protocol`. `progress_state` and
`metrics` are what is shown; `outcome` and `cause` are how the node ended, in the words of `shared.result_record`.
"""
