"""Tests of the forms made from job specifications."""
