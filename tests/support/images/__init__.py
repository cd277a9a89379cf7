"""The project's images, built from the Dockerfile without a container engine, and put on the nodes of a test cluster.

`base` makes the image that stands in for the official Python one, `build` runs the Dockerfile, `transport` streams
layers into containerd, `store` keeps the result in the user's cache, `background` does all of it while other tests run.
"""
