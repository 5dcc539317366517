"""Experiments: several jobs made from one form, and the page that shows them together."""
