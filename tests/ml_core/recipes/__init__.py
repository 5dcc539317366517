"""Tests of the recipes, each from its specification to its results."""
