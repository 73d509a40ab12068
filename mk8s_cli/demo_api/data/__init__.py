"""Documents from the sources of Kubernetes (made by tests/demo/make_documents.py), and samples."""
