"""Tests of reading archives."""
