"""How long the command line takes, against programs that do as little as such a program can."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.result import Result, in_turn, seconds
from tests.support.cli import Msctl
from tests.support.ports import reserved_port

ONE_COMMAND = """
import typer

app = typer.Typer()

@app.command()
def main(name: str = "World") -> None:
    print(f"Hello {name}")

app()
"""


def results() -> Iterator[Result]:
    with (
        tempfile.TemporaryDirectory(prefix="msctl-") as base,
        reserved_port() as gateway,
        reserved_port() as users,
    ):
        folder = Path(base)
        env = {"MSCTL_GATEWAY_PORT": str(gateway), "MSCTL_HELLO_PORT": str(gateway)}
        msctl = Msctl(folder, folder / "run", {**env, "MSCTL_USERS_PORT": str(users)})
        # What is installed is compiled; so must be what we compare with it.
        msctl.env.pop("PYTHONDONTWRITEBYTECODE", None)
        msctl.env.pop("PYTHONWARNINGS", None)
        program = folder / "one_command.py"
        program.write_text(ONE_COMMAND)

        def python(*arguments: str) -> float:
            return seconds(
                lambda: subprocess.run(
                    [sys.executable, *arguments], env=msctl.env, check=True, stdout=subprocess.DEVNULL
                )
            )

        def up() -> float:
            took = seconds(lambda: msctl.ok("up", "-d"))
            msctl.ok("down")
            return took

        msctl.ok("up", "-d")
        status = in_turn(lambda: seconds(lambda: msctl.ok("status")), lambda: python(str(program)), rounds=9)
        msctl.ok("down")
        yield Result("msctl status / a one-command typer program", *status, "s", at_most=1.6)
        start = in_turn(up, lambda: python("-c", "import aiohttp.web, aio_pika"))
        yield Result("msctl up -d until ready / importing aiohttp.web, aio_pika", *start, "s", at_most=2.0)
