"""Tests of signing in and of access to projects."""
