"""Colorizers: networks, and a fixed rule, that predict the ab colour of grey micrographs."""
