"""Tests of the page of an experiment."""
