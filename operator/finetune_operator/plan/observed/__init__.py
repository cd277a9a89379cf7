"""The objects of the cluster, parsed once, and what they tell of pods, gangs and failures. Pure."""
