"""The project's tests, by what they need: unit, training, cluster, e2e, gpu; `support` is what they stand on."""
