"""Tests of colorization networks and of colour bins."""
