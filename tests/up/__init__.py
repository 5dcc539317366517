"""Tests of `cristae up`: setup, demo, folders, stopping, data of an earlier version."""
