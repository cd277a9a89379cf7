"""Access to the Hugging Face Hub that more than one command needs: token, account, client, errors, environment."""
