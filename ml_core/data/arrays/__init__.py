"""Prepared memory-mapped arrays that all jobs of a revision share. Imports no torch."""
