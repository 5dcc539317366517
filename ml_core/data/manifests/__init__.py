"""Manifests, which list the contents of a dataset's revision, and splits of their items. Imports no torch."""
