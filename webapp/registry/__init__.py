"""The registry of encoders and models, made here or brought in."""
