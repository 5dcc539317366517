"""The web application: Django pages, sockets, the API and the database. Imports no torch."""
