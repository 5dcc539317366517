"""Tests of the worker with real processes: supervision, leases, the fork server, full disks."""
