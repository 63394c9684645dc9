"""The `--json` option, which most verbs have."""

from __future__ import annotations

from typing import Any

import typer


def json_option(verb: str, help_text: str = "Print one JSON document.") -> Any:
    """Return the `--json` option of a verb, with its environment variable."""
    return typer.Option("--json", envvar=f"MSCTL_{verb.upper()}_JSON", help=help_text)
