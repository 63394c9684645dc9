"""Targets that replace the gateway in front of a stack on this machine."""
