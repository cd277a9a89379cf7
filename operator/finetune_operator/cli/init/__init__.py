"""`finetune init`: from the command line that trains on one machine to the manifest of a FineTuneJob.

launch_command      the words -> launcher, nodes, processes, program, arguments (pure)
launcher_options    options of torchrun and of `accelerate launch` (pure)
accelerate_config   what `accelerate launch` was told -> `script.accelerateConfig`
program_source      what the program imports, downloads and understands, by its syntax tree
program_arguments   which of its arguments belong to the system
environment         which of the variables before the command belong to the system
local_files         files of this machine that arguments name -> a volume
secret_words        what must never be written into a manifest
draft, manifest     a job with comments -> YAML
questions           the same from answers on a terminal
remarks             what was taken out, and why
command             `finetune init` itself
"""
