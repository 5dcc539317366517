"""Trainers that only count, for the tests of the queue."""
