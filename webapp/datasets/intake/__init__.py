"""What was read from an upload becomes a dataset's items, in one commit."""
