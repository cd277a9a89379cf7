"""`finetune explain`: what the operator would decide on a job now, and why."""
