"""Reads the rows of datasets for pages and services; writes nothing."""
