"""What is known of a job before it runs: memory, duration, warnings."""
