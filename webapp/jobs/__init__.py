"""Jobs: rows, inputs, services, the live socket and pages."""
