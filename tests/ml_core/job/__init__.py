"""Tests of checkpoints on disk and of the output at a terminal."""
