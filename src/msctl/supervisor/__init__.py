"""Starts, watches and stops the services of a project; the entry point is `supervisor.Supervisor`."""
