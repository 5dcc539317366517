"""Tests of a job's results and run record."""
