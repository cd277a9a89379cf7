"""What the examples name, made small: models of the same architectures, data of the same columns, on the Hub of the tests.

The manifests stay as they are but for where the Hub is, how long is trained, and on what machine.
"""
