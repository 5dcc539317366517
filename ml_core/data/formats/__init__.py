"""One reader per file format, and the limited child process that reads what a user sent. Imports no torch."""
