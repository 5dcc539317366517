"""Tests of resumable uploads and of their refusals."""
