"""Tests of the HTML pages of datasets."""
