"""The error family: a message, a hint and an exit code.

Any code raises these; only the CLI's boundary (`cli/app.py`) prints them and exits.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every verb; `--help` and docs/cli.md list them."""

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
    """A failure for the user: `message` says what is wrong and where, `hint` what to do.

    Both follow `error:` and `hint:` and are embedded in log lines, so they begin with a small letter
    (except names) and end without a full stop. `exit_code` is the process's, if nothing handles the error.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MsctlError):
    """The command line is invalid."""

    exit_code = ExitCode.USAGE


class ConfigError(MsctlError):
    """The configuration is invalid; the message names the file, the line and the key."""

    exit_code = ExitCode.USAGE


class NotRunningError(MsctlError):
    """No stack runs for the project, or a service is not ready."""

    exit_code = ExitCode.NOT_RUNNING


class UnknownServiceError(MsctlError):
    """The project has no service of this name."""

    exit_code = ExitCode.UNKNOWN_SERVICE


class PortTakenError(MsctlError):
    """Another program holds a port that the stack needs."""

    exit_code = ExitCode.PORT_TAKEN

    def __init__(
        self, message: str, *, hint: str | None = None, port: int | None = None, service: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.port = port
        self.service = service


class BrokerError(MsctlError):
    """The broker is unreachable, refused a request, or did not confirm a message."""

    exit_code = ExitCode.BROKER


class TimedOutError(MsctlError):
    """A time limit that the user set has passed."""

    exit_code = ExitCode.TIMEOUT
