"""Tests of pairing masks with images, and of label tables."""
