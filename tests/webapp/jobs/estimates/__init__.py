"""Tests of the estimates shown before a job runs."""
