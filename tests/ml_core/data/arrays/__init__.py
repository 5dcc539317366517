"""Tests of prepared arrays and of the feature store."""
