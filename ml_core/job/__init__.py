"""A job's folder: specification, inputs, events, checkpoints. Imports no torch."""
