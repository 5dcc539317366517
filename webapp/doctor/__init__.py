"""Health of the server: checks of its parts, and a self-test that exercises all of them."""
