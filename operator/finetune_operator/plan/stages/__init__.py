"""The stages of a job (validate, prepare, train, publish): its next step, from what is desired and observed. Pure."""
