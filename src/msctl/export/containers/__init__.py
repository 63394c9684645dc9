"""Targets that run containers."""
