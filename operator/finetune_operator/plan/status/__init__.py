"""The status that a job shows: figures of its training, events for changes, a status for specs that no model reads. Pure."""
