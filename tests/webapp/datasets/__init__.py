"""Tests of datasets, a folder for each concern, and their shared fixtures."""
