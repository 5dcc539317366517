"""Tests of the trainers' library and command line, and the images, recipes and reporters they use."""
