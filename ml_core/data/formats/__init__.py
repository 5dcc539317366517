"""Image readers, one per file format, and the limited child process that decodes uploads. Imports no torch."""
