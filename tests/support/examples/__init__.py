"""Small stand-ins for the names of the examples: models of the same architectures, data of the same columns, on the Hub of the tests.

The manifests change only in the address of the Hub, the length of the training, and the machine.
"""
