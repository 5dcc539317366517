"""Tests of the HTML pages of jobs and of the queue."""
