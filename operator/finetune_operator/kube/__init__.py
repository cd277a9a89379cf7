"""The Kubernetes API as the operator uses it. Nothing else imports the client library."""
