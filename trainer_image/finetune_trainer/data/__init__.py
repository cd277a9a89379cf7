"""Rows and the model that reads them, from their files to the samples of a batch. Knows no task and no command."""
