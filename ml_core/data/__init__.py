"""Reads micrographs from files and archives, lists them in manifests, and loads them as batches."""
