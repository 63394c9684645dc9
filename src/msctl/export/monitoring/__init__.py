"""Targets that collect and show metrics."""
