"""Claims jobs from the queue, runs a trainer for each, and stores the events that it writes."""
