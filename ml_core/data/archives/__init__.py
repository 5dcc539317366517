"""Zip and tar uploads, read member by member within limits. Imports no torch."""
