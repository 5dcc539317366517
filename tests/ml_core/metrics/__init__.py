"""Tests of metrics and their confidence intervals."""
