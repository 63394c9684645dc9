"""Targets that run the services as processes of one machine."""
