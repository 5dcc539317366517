"""Parses file names and label tables: image-mask pairs, labels, stacks, published datasets. Imports no torch."""
