"""Tests of weight conversion, ImageNet weights and model export."""
