"""Metrics, traces and logs of the stack and its services."""
