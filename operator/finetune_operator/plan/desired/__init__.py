"""What a job is to become: manifests of its child objects, from the spec and the settings alone. Pure."""
