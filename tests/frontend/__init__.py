"""Tests of the sources of the front end."""
