"""Cristae on one machine: `manage.py up` and what it needs before Django can read its settings."""
