"""Whether the server is well: checks of its parts, and a test that goes through all of them."""
