"""Starts, watches and stops what a project declares; `runner.Supervisor` is the way in."""
