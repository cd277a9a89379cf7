"""Files on the volume beside the weights: manifests of sealed folders, records of attempts, notes of trainings."""
