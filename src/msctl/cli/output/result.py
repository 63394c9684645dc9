"""What a verb returns, and the one place that writes it: as text, or as a versioned JSON document.

Text that was asked for goes to standard output; what accompanies it (failures, hints) to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msctl.cli.output.terminal import safe_json
from msctl.errors import ExitCode

SCHEMA = 1


def no_lines() -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a verb.

    `data` is the JSON document's content, and `kind` its name. `text` makes the lines for people, only
    when they are shown. `problems` are lines for standard error, in either format.
    """

    kind: str
    data: object
    text: Callable[[], Iterable[str]] = no_lines
    problems: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK
    as_json: bool = False


def render(result: Result) -> None:
    """Write a verb's result to standard output and standard error."""
    if result.as_json:
        write_document(result.kind, result.data)
    else:
        sys.stdout.writelines(f"{line}\n" for line in result.text())
    sys.stdout.flush()
    sys.stderr.writelines(f"{line}\n" for line in result.problems)
    sys.stderr.flush()


def write_document(kind: str, data: object) -> None:
    """Write one indented JSON document: `{"schema": 1, "kind": …, "data": …}`."""
    import msgspec

    document = msgspec.json.encode({"schema": SCHEMA, "kind": kind, "data": data})
    sys.stdout.write(safe_json(msgspec.json.format(document, indent=2).decode()) + "\n")


def write_record(kind: str, data: object) -> None:
    """Write one JSON document on a line of its own, and flush: for streams."""
    import msgspec

    document = msgspec.json.encode({"schema": SCHEMA, "kind": kind, "data": data})
    sys.stdout.write(safe_json(document.decode()) + "\n")
    sys.stdout.flush()
