"""The reverse proxy in front of the stack's services."""
