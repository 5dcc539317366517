"""Tests of augmentation, BYOL views and the data of classification and colorization."""
