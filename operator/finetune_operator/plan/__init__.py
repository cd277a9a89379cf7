"""Pure decisions: the spec and the observed objects in, child objects and the next status out. No clock, no input or output."""
