"""The generated pages of docs/: `python -m tests.support.docs` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent
from typing import Any

import typer

from msctl.cli.app import EXIT_CODES, app
from msctl.cli.verb_group import VERBS
from msctl.config.reference import to_markdown
from msctl.supervisor.lifecycle import mermaid

FOLDER = Path(__file__).parents[2] / "docs"


def documents() -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    yield "configuration.md", _configuration()
    yield "cli.md", _cli()
    yield "lifecycle.md", _lifecycle()


def _configuration() -> str:
    head = (
        "# msctl.toml\n\n"
        "Every key, what it takes, its default, and the variable that sets it too. Later wins: defaults, "
        "`msctl.toml`, `.env`, variables, flags. In variables, NAME is the service's name in capitals, "
        "with `_` for `-`. `msctl config --explain` shows where each value came from.\n\n"
        "The column *reload* says what `msctl reload` does about an edited key while a stack runs: it is "
        "*applied* to the running instances, *scales* their number, *restarts* the service, or *needs "
        "down and up*. Switching HTTPS on or off needs down and up too.\n\n"
    )
    return head + to_markdown().rstrip() + "\n"


def _lifecycle() -> str:
    return (
        "# The life of an instance\n\n"
        "What `msctl status` can show, and what can follow what. `ready` is never shown early; a crash "
        "loop is `backoff` and then `fatal`.\n\n"
        f"```mermaid\n{mermaid().rstrip()}\n```\n"
    )


def _cli() -> str:
    root: Any = typer.main.get_command(app)
    context = root.make_context("msctl", [], resilient_parsing=True)
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    parts = [
        "# The command line\n",
        _prose(root.help),
        "## Exit codes\n",
        f"| code | meaning |\n|---|---|\n{codes}\n",
        "## Global options\n",
        "They come before the verb: `msctl --file shop/msctl.toml status`.\n",
        _options(root, context),
    ]
    for verb in VERBS:
        parts += _verb(f"msctl {verb}", root.get_command(context, verb), context)
    return "\n".join(parts).rstrip() + "\n"


def _verb(name: str, command: Any, parent: Any) -> list[str]:
    context = command.context_class(command, info_name=name, parent=parent)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, *(p.make_metavar(context) for p in arguments)])
    parts = [f"## `{usage}`\n", _prose(command.help), _options(command, context)]
    for child in getattr(command, "commands", {}).values():
        parts += _verb(f"{name} {child.name}", child, context)
    return [part for part in parts if part]


def _prose(text: str | None) -> str:
    """Help as Markdown: what it does not rewrap (after \\b) becomes a block of code."""
    prose, _, examples = cleandoc(text or "").partition("\b\n")
    head, _, commands = examples.partition("\n")
    block = f"{head}\n\n```sh\n{dedent(commands).strip()}\n```\n" if commands else ""
    return f"{prose.strip()}\n\n{block}".strip() + "\n"


def _options(command: Any, context: Any) -> str:
    rows = []
    for option in command.params:
        if option.param_type_name != "option" or getattr(option, "hidden", False):
            continue
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        variables = option.envvar if isinstance(option.envvar, (list, tuple)) else [option.envvar]
        shown = ", ".join(f"`{variable}`" for variable in variables if variable)
        rows.append(f"| {names} | {shown} | {(option.help or '').strip()} |")
    if not rows:
        return ""
    return "\n".join(["| option | variable | |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents():
        (FOLDER / name).write_text(text)
