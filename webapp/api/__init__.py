"""The REST API for scripts, one router per app."""
