"""The commands of `python -m ml_core`, a file each. Those that need torch load it when they are called."""
