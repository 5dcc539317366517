"""Tests of jobs: services, live updates, and a folder for each concern."""
