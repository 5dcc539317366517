"""Tests of operations on pixels: contrast, hashes, picture sheets, blur, Lab colour."""
