"""The one family of errors: what went wrong, what to do about it, and the exit code it ends with.

Code anywhere raises these; only the CLI's boundary (`cli/app.py`) prints them and exits.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every verb, as `--help` and the README list them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    UNKNOWN_SERVICE = 4
    PORT_TAKEN = 5
    BROKER = 6
    TIMEOUT = 124
    INTERRUPTED = 130


class MsctlError(Exception):
    """A failure that a user can read: one clause of what and where, a hint of what to do.

    `message` and `hint` are printed behind `error:` and `hint:`, and go into log lines and other
    messages: they begin small (but for names) and end without a full stop or newline. `exit_code`
    is what the process ends with when nobody handles it.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MsctlError):
    """The command line asks for something that cannot be meant."""

    exit_code = ExitCode.USAGE


class ConfigError(MsctlError):
    """A configuration that cannot be used; the message names the file, the line and the key."""

    exit_code = ExitCode.USAGE


class NotRunningError(MsctlError):
    """No stack is running for this project, or what was asked for is not ready."""

    exit_code = ExitCode.NOT_RUNNING


class UnknownServiceError(MsctlError):
    """A service was named that the project does not have."""

    exit_code = ExitCode.UNKNOWN_SERVICE


class PortTakenError(MsctlError):
    """A port that the stack needs is held by something else."""

    exit_code = ExitCode.PORT_TAKEN


class BrokerError(MsctlError):
    """The broker could not be reached, refused us, or did not confirm."""

    exit_code = ExitCode.BROKER


class TimedOutError(MsctlError):
    """Something did not happen within the time that the user gave it."""

    exit_code = ExitCode.TIMEOUT
