"""Tests of queries about a dataset's items."""
