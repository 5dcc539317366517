"""Scores of segmentation, classification and colorization, their intervals, and monitors of pretraining."""
