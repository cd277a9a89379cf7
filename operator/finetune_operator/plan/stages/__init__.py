"""The stages of a job (validate, prepare, train, publish): its next step, from the desired and the observed objects. Pure."""
