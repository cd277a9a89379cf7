"""Pure decisions: spec and what was observed in, child objects and next status out. No clock, no input or output."""
