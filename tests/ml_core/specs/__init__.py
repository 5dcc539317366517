"""Tests of job specifications and their presets."""
