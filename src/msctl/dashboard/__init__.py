"""The stack's page: its server, and the three files that the browser gets."""
