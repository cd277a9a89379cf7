"""What runs inside the training image.

Layers, lowest first: `contract` (documents that the operator reads and writes too) < `shared` (volume, paths, failures, the Hub,
checkpoints) < `data` (rows and the model that reads them) < `tasks` < the four commands, which know nothing of each other:
`prepare` turns the user's data into tokenised Arrow files, `launch` is process 1 of every training pod, `train` is one rank,
`publish` brings the finished model to the Hub.
"""
