"""Targets that check, build and deploy the project."""
