"""Reads zip and tar uploads member by member, within limits on number and size. Imports no torch."""
