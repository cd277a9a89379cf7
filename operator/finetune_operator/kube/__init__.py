"""The Kubernetes API as the operator speaks it. Nothing else imports the client library."""
