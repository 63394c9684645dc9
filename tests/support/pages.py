"""The pages of the documentation as sessions in a shell: what they write, run and show.

- A block ```sh is run. A block ```text directly after it shows its whole output, standard error included:
  `…` stands for any text, a line with nothing else for any lines. What differs from run to run (times,
  durations, sizes, process ids, random ids, bars) is compared by its form.
- A block of another language whose first line is a comment with a file name writes that file.
- A block ```console shows commands that tests cannot run; each begins with `$ `.
- A comment `<!-- setup` holds commands that prepare what the page takes for granted; `$EXAMPLES` is the
  folder of the examples of `msctl init`.

`python -m tests.support.pages PAGE...` runs pages and replaces the outputs that they, and their translations,
show.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.cli import PATIENCE, SOURCE
from tests.support.course import processes_of
from tests.support.ports import reserved_port

ROOT = Path(__file__).parents[2]
GENERATED = ("docs/cli.md", "docs/configuration.md", "docs/lifecycle.md")
TRANSLATED = ("README.zh-CN.md", "docs/tutorial.zh-CN.md")
PORTS = (8080, 8081, 8082, 8083, 8090, 5672, 15672, 2379, 2380)
"""The ports that pages name; in a run each is replaced by one of the test's own."""

_BLOCK = re.compile(r"^( *)(?:```|<!-- )(\w*)\n(.*?)^\1(?:```|-->)$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"(?:#|//) ([\w./-]+\.(?:toml|py|js|mjs|go|env))\n")
_MARK = "=== step %d of the page ==="
_VOLATILE = (
    (re.compile(r"\b[0-9a-f]{16,}\b"), "<id>"),
    (re.compile(r"\bmsctl-[0-9a-f]{8}\b"), "<hop>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms|µs|m|m\d\ds)\b"), "<duration>"),
    (re.compile(r"\b\d+(\.\d+)?( [KMG]iB|%)"), "<size>"),
    (re.compile(r"(?<![\d./])\d+\.\d\b(?!\.)"), "<number>"),
    (re.compile(r"(?<=0\.0\.1:|lhost:)(?!(?:80(?:8[0-3]|90)|1?5672)\b)\d{4,5}\b"), "<port>"),
    (re.compile(r"(?<![:\w])\d+(?= +(?:<duration>|http))|(?<=pid )\d+"), "<pid>"),
    (re.compile(r"[━╺╸]+"), "<bar>"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something to run, and the output that the page shows for it; None where it shows none."""

    script: str
    shown: str | None = None
    span: tuple[int, int] = (0, 0)


def pages() -> Iterator[str]:
    """The paths, from the repository's root, of all pages that are written by hand."""
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        name = page.relative_to(ROOT).as_posix()
        if name not in GENERATED and name != "CHANGELOG.md":
            yield name


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def steps(text: str) -> list[Step]:
    """The page's session."""
    found: list[Step] = []
    end_of_command = -1
    for block in _BLOCK.finditer(text):
        indent, language, body = block.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        if language in ("sh", "setup"):
            found.append(Step(body))
            end_of_command = block.end()
        elif language == "text" and end_of_command >= 0 and not text[end_of_command : block.start()].strip():
            found[-1] = Step(found[-1].script, body, block.span(3))
        elif named := _FILE.match(body):
            file = named[1]
            found.append(
                Step(f"mkdir -p $(dirname {file})\ncat > {file} <<'END OF FILE'\n{body}END OF FILE\n")
            )
    return found


def commands(text: str) -> list[str]:
    """Each command line that a page has a reader type, run by tests or not."""
    lines: list[str] = []
    for block in _BLOCK.finditer(text):
        if block[2] == "sh":
            lines += block[3].splitlines()
        elif block[2] == "console":
            lines += [line.strip()[2:] for line in block[3].splitlines() if line.strip().startswith("$ ")]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def untested(text: str) -> list[str]:
    """The command lines of ```console blocks."""
    blocks = "".join(block[3] for block in _BLOCK.finditer(text) if block[2] == "console")
    return [line.strip()[2:] for line in blocks.splitlines() if line.strip().startswith("$ ")]


def shows(shown: str, output: str) -> bool:
    """Whether an output is the one that a page shows."""
    pattern = ""
    for line in _plain(shown).splitlines():
        if line == "…":
            pattern += "(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split("…")) + "\n"
    return re.fullmatch(pattern, _plain(output)) is not None


def _plain(text: str) -> str:
    lines = []
    for line in text.replace("\r", "").strip("\n").splitlines():
        for volatile, form in _VOLATILE:
            line = volatile.sub(form, line)
        lines.append(line.strip())
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def shell(ports: Mapping[int, int]) -> Iterator[tuple[Path, dict[str, str]]]:
    """An empty folder and home with `msctl` on PATH; no stack of it is left at the end."""
    # Not pytest's own temporary folder: the path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="msctl-") as name:
        base = Path(name)
        folder, runtime, program = base / "work", base / "run", base / "bin" / "msctl"
        for made in (folder, runtime, program.parent):
            made.mkdir(mode=0o700)
        program.write_text(_PROGRAM.format(python=sys.executable, ports=dict(ports)))
        program.chmod(0o755)
        (base / ".curlrc").write_text("silent\nshow-error\n")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MSCTL_", "XDG_", "OTEL_"))}
        env = {
            **clean,
            "HOME": name,
            "MSCTL_RUNTIME_DIR": str(runtime),
            "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "COLUMNS": "110",
            "EXAMPLES": str(SOURCE / "msctl" / "config" / "examples"),
        }
        env.pop("AMQP_URL", None)
        env.pop("VIRTUAL_ENV", None)
        try:
            yield folder, env
        except BaseException:
            _kill(processes_of(runtime))
            raise
        left = [process for process in processes_of(runtime) if process.status() != psutil.STATUS_ZOMBIE]
        _kill(left)
        assert not left, f"left running: {left}"


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()


# `msctl`, with the test's own ports where a project names none.
_PROGRAM = """#!{python}
import os, sys, tomllib
from pathlib import Path

own = {ports}
file = next((folder / "msctl.toml" for folder in (Path.cwd(), *Path.cwd().parents)
             if (folder / "msctl.toml").exists()), None)
if "-f" in sys.argv:
    file = Path(sys.argv[sys.argv.index("-f") + 1])
declared = {{}} if file is None else tomllib.loads(file.read_text())
defaults = {{
    ("gateway", "port", 8080): own[8080],
    ("dashboard", "port", 8090): own[8090],
    ("broker", "management_port", 15672): own[15672],
    ("broker", "url", "amqp://guest:guest@localhost:5672/"): f"amqp://guest:guest@localhost:{{own[5672]}}/",
}}
for (table, key, default), value in defaults.items():
    # An export runs nothing, and says which variables it was made with.
    if "export" not in sys.argv and declared.get(table, {{}}).get(key, default) == default:
        os.environ.setdefault(f"MSCTL_{{table}}_{{key}}".upper(), str(value))
# What a start waits for is said once it takes long, which on a busy machine it does.
import msctl.cli.output.waiting
msctl.cli.output.waiting.PLAIN_AFTER_S = 3600.0
if file is None:
    os.environ.update(MSCTL_HELLO_PORT=str(own[8080]), MSCTL_USERS_PORT=str(own[8081]))
from msctl.__main__ import main
main()
"""


def run(page: str) -> list[tuple[Step, str]]:
    """Run a page's session in one shell; each step with its output. Raises AssertionError where one fails."""
    session = steps(text_of(page))
    with ExitStack() as stack:
        ports = {port: stack.enter_context(reserved_port()) for port in PORTS}
        folder, env = stack.enter_context(shell(ports))
        script = ""
        for number, step in enumerate(session):
            script += f"echo '{_MARK % number}'\n{_with_ports(step.script, ports)}\n"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"exec 2>&1\n{script}"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=2 * PATIENCE,
        )
        output = done.stdout.decode(errors="replace")
        for shown, own in ports.items():
            output = re.sub(rf"\b{own}\b", str(shown), output)
        output = output.replace(sys.executable, "python3")
        output = output.replace(str(folder), "/home/you").replace(str(folder.parent), "/home/you")
        assert done.returncode == 0, f"{page}: a command failed with {done.returncode}\n{output}"
        assert "Traceback" not in output, f"{page}:\n{output}"
    parts = re.split("|".join(re.escape(_MARK % number) for number in range(len(session))) or "$^", output)
    return list(zip(session, parts[1:], strict=True))


def _with_ports(text: str, ports: Mapping[int, int]) -> str:
    for shown, own in ports.items():
        text = re.sub(rf"\b{shown}\b", str(own), text)
    return text


def _rewrite(page: str) -> None:
    """Replace the outputs that a page, and its translation, shows and that are not those of a run."""
    outputs = [output.replace("\r", "").strip("\n") + "\n" for _, output in run(page)]
    translation = page.replace(".md", ".zh-CN.md")
    for name in (page, translation) if translation in TRANSLATED else (page,):
        text = text_of(name)
        for step, output in reversed(list(zip(steps(text), outputs, strict=True))):
            if step.shown is not None and not shows(step.shown, output):
                start, end = step.span
                text = text[:start] + output + text[end:]
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _rewrite(argument)
