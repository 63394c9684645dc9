"""msctl runs a real microservice system on one machine, from one command, without Docker."""

# As typing has it, whose import takes milliseconds in which Ctrl-C is still a traceback (see __main__.py).
TYPE_CHECKING = False

if TYPE_CHECKING:
    from msctl.model.current_context import service_context
    from msctl.model.service_context import ServiceContext

__all__ = ["ServiceContext", "__version__", "service_context"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the public names on first use: most verbs do not need them."""
    if name == "ServiceContext":
        from msctl.model.service_context import ServiceContext

        return ServiceContext
    if name == "service_context":
        from msctl.model.current_context import service_context

        return service_context
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
