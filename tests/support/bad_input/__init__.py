"""The matrix of bad input: one table, from which the page in `docs/` is generated and over which the tests run."""
