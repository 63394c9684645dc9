"""`nginx`: a proxy in front of a stack that runs on this machine, for nginx 1.18 or newer."""

from msctl.export.proxies.nginx.base import KIND

__all__ = ["KIND"]
