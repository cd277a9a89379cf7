"""What several of the four commands need, and which belongs to none: the volume, paths, failures, the Hub, checkpoints."""
