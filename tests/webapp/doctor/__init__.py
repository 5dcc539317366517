"""Tests of the doctor's page and checks."""
