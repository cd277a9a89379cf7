"""The objects that a job is to become: their manifests, from the spec and the settings alone. Pure."""
