"""The form of a new job, drawn from its specification."""
