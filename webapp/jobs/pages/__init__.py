"""The HTML pages of jobs, of a new job and of the queue."""
