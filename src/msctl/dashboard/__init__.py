"""The stack's dashboard: its server and the files of the page."""
