"""Tests of the container images."""
