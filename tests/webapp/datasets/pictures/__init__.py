"""Tests of images and masks as the browser receives them."""
