"""Changes of a dataset, each of which makes one new revision."""
