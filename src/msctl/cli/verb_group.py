"""The group of all verbs: imports a verb when it is used, renders its result, lists verbs by topic."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup

from msctl.cli.interrupts import exit_on_interrupt
from msctl.cli.options.dashes import WORDS_BEFORE_DASHES
from msctl.cli.output.result import Result, render
from msctl.errors import ExitCode, UsageError
from msctl.hints import nearest

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

TOPICS: Mapping[str, tuple[str, ...]] = {
    "Run a project": ("up", "down", "reload", "open", "ls"),
    "Services": ("status", "logs", "start", "stop", "restart", "scale", "wait", "events", "run", "serve"),
    "Requests": ("routes", "route", "traces", "runs"),
    "Faults": ("fault",),
    "Messages": ("send", "consume", "queues", "broker"),
    "Projects": ("init", "config", "graph", "doctor", "export", "sim"),
}
"""The verbs by topic; each is the function of its name in the module of its name in cli/verbs/."""
VERBS = tuple(verb for verbs in TOPICS.values() for verb in verbs)
ALIASES = {"ps": "status"}


class VerbGroup(TyperGroup):
    """Finds verbs in `TOPICS`, and renders what they return."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        name = ALIASES.get(cmd_name, cmd_name)
        return _command(name) if name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in VERBS and name not in ALIASES and not name.startswith("-"):
            near = nearest(name, (*VERBS, *ALIASES))
            meant = f"did you mean {near!r}? " if near else ""
            raise UsageError(f"unknown verb {name!r}", hint=f"{meant}list the verbs with: msctl --help")
        # click drops the dashes, and `run` has to know whether a service stands before them.
        ctx.meta[WORDS_BEFORE_DASHES] = args.index("--") - 1 if "--" in args else None
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for topic, verbs in TOPICS.items():
            with formatter.section(topic):
                formatter.write_dl([(verb, self._summary(ctx, verb)) for verb in verbs])

    def _summary(self, ctx: Any, verb: str) -> str:
        summary: str = self.get_command(ctx, verb).get_short_help_str(limit=70)
        return summary.removesuffix(".")

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:  # of `msctl --help | head`
            discard_output()
            raise typer.Exit(int(ExitCode.OK)) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, write its result, and return the exit code."""
        try:
            result = super().invoke(ctx)
            if isinstance(result, Result):
                render(result)
                return int(result.exit_code)
            sys.stdout.flush()
            return int(ExitCode.OK)
        except BrokenPipeError:
            discard_output()
            return int(ExitCode.OK)


@cache
def _command(name: str) -> Any:
    """Import a verb and build its command, once in a process: tests run many command lines in one."""
    with exit_on_interrupt():
        verb = getattr(importlib.import_module(f"msctl.cli.verbs.{name}"), name)
    if not isinstance(verb, typer.Typer):
        single = typer.Typer(add_completion=False, context_settings=HELP_OPTIONS, rich_markup_mode=None)
        single.command(name)(verb)
        verb = single
    verb.rich_markup_mode = None  # every verb's help looks alike
    command: Any = typer.main.get_command(verb)
    command.name = name
    return command


def discard_output() -> None:
    """Write standard output to nowhere: its reader is gone (`msctl logs | head`).

    Python flushes standard output at exit, and would report the closed pipe again.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
