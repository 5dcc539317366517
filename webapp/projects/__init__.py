"""Users, projects and their members, and access control."""
