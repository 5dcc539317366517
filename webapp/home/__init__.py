"""The home page, search and the page of one project: pages that combine all other apps."""
