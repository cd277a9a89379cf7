"""Code that several of the four commands share: the volume, paths, failures, the Hub, checkpoints."""
