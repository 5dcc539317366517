"""Tests of networks, their costs, activation maps and tiled prediction."""
