"""The form of a new job, generated from its specification."""
