"""Documents made from the sources of Kubernetes by `make`."""
