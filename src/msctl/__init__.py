"""msctl runs a real microservice system on one machine, from one command, without Docker."""

from msctl.model import ServiceContext

__all__ = ["ServiceContext", "__version__"]

__version__ = "0.1.0"
