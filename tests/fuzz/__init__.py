"""Tests with damaged, hostile and oddly named files."""
