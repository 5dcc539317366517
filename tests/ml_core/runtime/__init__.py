"""Tests of the training loop, the meter, weights and the machine check."""
