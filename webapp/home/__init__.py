"""Home, search and the page of one project: the pages above all other apps."""
