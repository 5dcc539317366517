"""Tests of changes to a dataset, each of which makes a revision, and of its checks and export."""
