"""`sim`: run the system on virtual time through many bad networks."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.errors import ExitCode, UsageError
from msctl.hints import nearest

if TYPE_CHECKING:
    from msctl.cli.options.global_options import GlobalOptions
    from msctl.simulation.faults import FaultKind
    from msctl.simulation.run import RunResult

SCENARIO = "scenario.py"
NETWORK = "cut,partition,delay"


def sim(
    ctx: typer.Context,
    scenario: Annotated[
        Path | None,
        typer.Argument(
            help="A file with a scenario; by default scenario.py beside msctl.toml, or GET of each route."
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option("--seeds", envvar="MSCTL_SIM_SEEDS", metavar="N", help="How many runs, from seed 1 on."),
    ] = 100,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Only this run, with its whole history.")
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            envvar="MSCTL_SIM_FAULTS",
            metavar="KINDS",
            help="What may go wrong: cut, partition, delay, confirm-lost, duplicate, reorder, crash, "
            "broker-crash; or all, or none.",
        ),
    ] = NETWORK,
    as_json: Annotated[bool, json_option("sim")] = False,
) -> Result:
    """Run the hosted services, the gateway and the broker on virtual time and a seeded network.

    The same seed gives the same run. A run that fails is replayed with fewer faults, to the shortest history.

    \b
    Examples:
      msctl sim --seeds 200
      msctl sim --seed 7
      msctl sim checkout.py --faults crash,cut
    """
    from msctl.cli.output.sim import Summary, failure_lines, history_lines, summary_line
    from msctl.simulation.run import shrink, simulate_once
    from msctl.simulation.scenario import load_scenario

    if seeds < 1:
        raise UsageError(f"--seeds must be 1 or more, not {seeds}")
    options: GlobalOptions = ctx.obj
    project = options.load().project
    kinds = _kinds(faults)
    file = scenario if scenario is not None else _beside(project.root)
    loaded = load_scenario(None if file is None else file.absolute())
    if seed is not None:
        found = simulate_once(project, loaded, seed, kinds, traced=True)
        lines = [*history_lines(found)]
        return Result("sim", found, lambda: lines, exit_code=_code(found), as_json=as_json)
    began, virtual = time.monotonic(), 0.0
    for number in range(1, seeds + 1):
        found = simulate_once(project, loaded, number, kinds)
        virtual += found.seconds
        if found.failure:
            _progress("")
            shortest = shrink(project, loaded, found, kinds)
            told = simulate_once(project, loaded, number, kinds, faults=shortest.faults, traced=True)
            shortest = told if told.failure else shortest
            found = replace(found, trace=shortest.trace)
            return _failed(found, failure_lines(found, shortest, _again(scenario, number, faults)), as_json)
        _progress(f"{number} of {seeds} runs, {virtual / 60:.0f} virtual minutes")
    _progress("")
    summary = Summary(seeds, virtual, time.monotonic() - began)
    return Result("sim", summary, lambda: [summary_line(summary)], as_json=as_json)


def _failed(found: RunResult, lines: list[str], as_json: bool) -> Result:
    return Result("sim", found, lambda: lines, exit_code=ExitCode.FAILED, as_json=as_json)


def _code(found: RunResult) -> ExitCode:
    return ExitCode.FAILED if found.failure else ExitCode.OK


def _progress(text: str) -> None:
    """Replace the line on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def _beside(root: Path | None) -> Path | None:
    file = None if root is None else root / SCENARIO
    return file if file is not None and file.is_file() else None


def _kinds(text: str) -> list[FaultKind]:
    from msctl.simulation.faults import FaultKind

    if text == "none":
        return []
    if text == "all":
        return list(FaultKind)
    return [_kind(word.strip()) for word in text.split(",")]


def _kind(word: str) -> FaultKind:
    from msctl.simulation.faults import FaultKind

    try:
        return FaultKind(word)
    except ValueError:
        near = nearest(word, map(str, FaultKind))
        known = ", ".join(FaultKind)
        raise UsageError(
            f"--faults: there is no fault {word!r}",
            hint=(f"did you mean {near!r}? " if near else "") + f"there are {known}; or all, or none",
        ) from None


def _again(file: Path | None, seed: int, faults: str) -> str:
    """The command that replays a run."""
    words = ["msctl sim"]
    if file is not None:
        words.append(str(file))
    words.append(f"--seed {seed}")
    if faults != NETWORK:
        words.append(f"--faults {faults}")
    return " ".join(words)
