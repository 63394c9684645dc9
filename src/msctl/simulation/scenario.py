"""Reads a scenario: a Python file with `async def scenario(world)`, and what it may set besides.

    stubs = {"users": create_users}     # applications in place of commands
    seconds = 120                       # how long faults happen

Raises MsctlError with the file and the line for one that cannot be used.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msctl.errors import MsctlError
from msctl.simulation.run import Scenario
from msctl.simulation.world import World

PLAIN_REQUESTS = 30


async def plain(world: World) -> None:
    """The scenario of a project without one: GET each route again and again; a 500 of a service fails."""
    paths = sorted({route.path for spec in world.services for route in spec.routes if "{" not in route.path})
    for number in range(PLAIN_REQUESTS):
        for path in paths:
            async with world.http.get(path) as response:
                await response.read()
                world.expect(response.status != 500, f"GET {path} answered 500")
        await world.sleep(1 + number % 3)
    await world.settle()
    for path in paths:
        async with world.http.get(path) as response:
            world.expect(
                response.status < 500, f"GET {path} still answers {response.status} after all faults"
            )


def load_scenario(path: Path | None) -> Scenario:
    """Return the scenario in a file; without one, `plain`."""
    if path is None:
        return Scenario(plain)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MsctlError(f"cannot read the scenario {path}: {error}") from error
    names: dict[str, Any] = {"__name__": "scenario", "__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), names)  # noqa: S102 - the user's own scenario
    except SyntaxError as error:
        raise MsctlError(f"{path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else 1
        raise MsctlError(f"{path}:{line}: {type(error).__name__}: {error}") from error
    run = names.get("scenario")
    if not inspect.iscoroutinefunction(run):
        raise MsctlError(f"{path} has no scenario", hint="define: async def scenario(world): …")
    stubs = names.get("stubs", {})
    if not isinstance(stubs, Mapping):
        raise MsctlError(f"{path}: stubs must be a dictionary from service to application")
    seconds = names.get("seconds", 60.0)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        raise MsctlError(f"{path}: seconds must be a number greater than 0, not {seconds!r}")
    return Scenario(run, lambda: stubs, float(seconds), path)
