"""People, projects and their members: who may see and change what."""
