"""What is said instead of a change that cannot be made."""


class EditRefused(Exception):
    """A change that was not made; the text says why and what to do."""
