"""What lies on the volume beside weights: manifests of sealed folders, records of attempts, notes of trainings."""
