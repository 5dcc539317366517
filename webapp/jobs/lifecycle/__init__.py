"""A job's row as the worker changes it: states, leases, events, the queue's order, the reaper."""
