"""The stages of a job (validate, prepare, train, publish): what to do next, from what is desired and observed. Pure."""
