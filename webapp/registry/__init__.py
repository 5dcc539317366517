"""The registry of encoders and models, trained here or imported."""
