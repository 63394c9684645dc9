"""Builds what a release consists of into dist/, and says what keeps it from being one.

    python .packaging/release.py [--final]

Everything carries the time of the commit (SOURCE_DATE_EPOCH), so that the same commit on the same base gives
the same files. RELEASING.md has the procedure.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
CHECKSUMS = "SHA256SUMS"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build wheel, sdist, binary, bill of materials, checksums.")
    parser.add_argument("--final", action="store_true", help="refuse what is not ready to be published")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args(arguments)
    if given.out.exists() and given.out != ROOT / "dist":
        sys.stderr.write(f"error: {given.out} exists\n")
        return 1
    version = _version()
    problems = list(find_problems(version))
    for problem in problems:
        sys.stderr.write(f"{'error' if given.final else 'warning'}: {problem}\n")
    if problems and given.final:
        return 1
    out: Path = given.out
    if out == ROOT / "dist":
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    build(out, version)
    for line in (out / CHECKSUMS).read_text().splitlines():
        sys.stdout.write(f"{line}\n")
    return 0


def build(out: Path, version: str) -> None:
    """Build everything into an empty folder."""
    epoch = _git("log", "-1", "--format=%ct") or os.environ.get("SOURCE_DATE_EPOCH", "0")
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    binary = out / f"msctl-{version}-{platform.system().lower()}-{platform.machine()}"
    _python(env, "-m", "hatchling", "build", "-d", str(out))
    _python(env, str(HERE / "binary.py"), "-o", str(binary))
    _python(env, str(HERE / "sbom.py"), str(binary), "-o", str(binary.with_name(f"{binary.name}.cdx.json")))
    files = sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith("."))
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (out / CHECKSUMS).write_text("".join(sums))


def find_problems(version: str) -> Iterator[str]:
    """Yield what keeps this tree from being the release `version`."""
    if not _git("rev-parse", "HEAD"):
        yield "this is no git checkout"
    elif _git("status", "--porcelain"):
        yield "the tree differs from its commit"
    elif f"v{version}" not in _git("tag", "--points-at", "HEAD").split():
        yield f"the commit has no tag v{version}"
    changes = (ROOT / "CHANGELOG.md").read_text()
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes, re.M):
        yield f"CHANGELOG.md has no section {version} with a date"
    if "urls" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]:
        yield "pyproject.toml has no [project.urls]"
    yield from _other_versions()


def _other_versions() -> Iterator[str]:
    """Yield the packages that are installed in another version than the pinned one."""
    pins = re.findall(r"^([a-z0-9.-]+)(?:\[.*?\])?==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    for name, pinned in pins:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform; what the build needs, it misses itself
        if installed != pinned:
            yield f"{name} {installed} is installed, and constraints.txt has {pinned}: make dev"


def _version() -> str:
    text = (ROOT / "src" / "msctl" / "__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    if found is None:
        raise SystemExit("error: src/msctl/__init__.py has no __version__")
    return found[1]


def _git(*arguments: str) -> str:
    """Return what git prints; empty where there is no git or no checkout."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(ROOT), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _python(env: dict[str, str], *arguments: str) -> None:
    """Run Python without the current folder on its path; its output is shown only if it fails."""
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", *arguments], cwd=ROOT, env=env, stdout=output, stderr=output, check=False
        )
        if done.returncode:
            output.seek(0)
            sys.stderr.write(output.read())
            raise SystemExit(f"error: {' '.join(arguments)} failed")


if __name__ == "__main__":
    sys.exit(main())
