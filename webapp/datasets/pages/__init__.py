"""The HTML pages of datasets, items and uploads."""
