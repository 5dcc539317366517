"""Estimates for a job before it runs: memory, duration, warnings."""
