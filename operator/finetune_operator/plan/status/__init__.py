"""What a job shows of itself: figures of its training, events for changes, a status for specs that no model reads. Pure."""
