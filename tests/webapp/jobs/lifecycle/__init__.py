"""Tests of leases and of the order of the queue."""
