"""Micrographs on their way from a file to a batch: formats, archives, names, manifests, arrays, loading."""
