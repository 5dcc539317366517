"""Works the queue off: claims jobs, runs a trainer for each, collects what it says."""
