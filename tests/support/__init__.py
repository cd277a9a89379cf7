"""Support of the tests: `cluster` starts a real Kubernetes on this machine, `images` builds the project's images and
puts them on its nodes. Nothing here is imported by the product.
"""
