"""Changes of a job's row while it is queued and run: states, leases, events, the queue's order, the reaper."""
