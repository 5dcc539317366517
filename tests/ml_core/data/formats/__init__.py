"""Tests of image readers, and of files written and read back."""
