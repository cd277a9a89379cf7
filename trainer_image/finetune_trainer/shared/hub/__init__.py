"""The Hugging Face Hub as more than one command speaks to it: token, account, client, errors, environment."""
