"""The reverse proxy in front of the stack's services."""

# As typing has it, whose import takes milliseconds.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from msctl.gateway.mount import application

__all__ = ["application"]


def __getattr__(name: str) -> object:
    """Import the public name on first use: nothing of msctl needs it."""
    if name == "application":
        from msctl.gateway.mount import application

        return application
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
