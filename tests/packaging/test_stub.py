"""The script at the head of the binary: it runs only what no other user could have put into the cache, and
only where the Python in the tar can run."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import other_user
from tests.support.other_user import as_root

STUB = Path(__file__).parents[2] / ".packaging" / "msctl.sh.in"
DIGEST = "0123456789abcdef"
Run = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Run:
    """A binary whose Python is a script that says that it runs."""
    return make(tmp_path, cache)


def make(tmp_path: Path, cache: Path, **built_for: str) -> Run:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        script = b"#!/bin/sh\necho genuine\n"
        entry = tarfile.TarInfo("bin/python3")
        entry.size, entry.mode = len(script), 0o755
        tar.addfile(entry, io.BytesIO(script))
    head = STUB.read_text()
    values = {"VERSION": "1", "PYTHON": "3.11.0", "DIGEST": DIGEST, "LINES": str(head.count("\n") + 1)}
    values |= {"MACHINE": platform.machine(), "LOADER": "/bin/sh", "GLIBC": "17", **built_for}
    for name, value in values.items():
        head = head.replace(f"@{name}@", value)
    binary = tmp_path / "msctl"
    binary.write_bytes(head.encode() + packed.getvalue())
    binary.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "MSCTL_CACHE_DIR": str(cache), "TMPDIR": str(tmp_path)}
    return lambda: subprocess.run([binary], capture_output=True, text=True, env=env, timeout=60)


def plant(cache: Path, mode: int = 0o755) -> Path:
    """An unpacked copy that runs something else, with the mark of a complete one."""
    program = cache / DIGEST / "bin" / "python3"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho planted\n")
    program.chmod(0o755)
    (cache / DIGEST / "complete").touch()
    (cache / DIGEST).chmod(mode)
    return cache / DIGEST


def test_it_unpacks_itself_and_runs(run: Run, cache: Path) -> None:
    assert run().stdout == "genuine\n"
    assert run().stdout == "genuine\n"
    assert (cache / DIGEST / "complete").exists()


@as_root
def test_a_copy_of_another_user_is_replaced(run: Run, cache: Path) -> None:
    other_user.give(plant(cache))
    assert run().stdout == "genuine\n"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_copy_that_others_can_write_is_replaced(run: Run, cache: Path, mode: int) -> None:
    plant(cache, mode)
    assert run().stdout == "genuine\n"


@pytest.mark.parametrize("mode", [0o1777, 0o770])
def test_a_cache_that_others_can_write_is_refused(run: Run, cache: Path, mode: int) -> None:
    plant(cache)
    cache.chmod(mode)
    done = run()
    assert done.returncode != 0
    assert str(cache) in done.stderr
    assert "planted" not in done.stdout


def test_a_link_instead_of_a_copy_is_replaced(run: Run, cache: Path, tmp_path: Path) -> None:
    plant(tmp_path / "elsewhere")
    cache.mkdir()
    (cache / DIGEST).symlink_to(tmp_path / "elsewhere" / DIGEST)
    assert run().stdout == "genuine\n"
    assert (tmp_path / "elsewhere" / DIGEST / "complete").exists()


@pytest.mark.parametrize(
    ("built_for", "fragments"),
    [
        ({"GLIBC": "999"}, ["needs glibc 2.999", "has glibc 2."]),
        ({"MACHINE": "vax"}, ["Linux vax", platform.machine()]),
        ({"LOADER": "/lib/no-such-loader.so"}, ["has no glibc"]),
    ],
)
def test_a_machine_that_cannot_run_it_is_refused_before_anything_is_unpacked(
    tmp_path: Path, cache: Path, built_for: dict[str, str], fragments: list[str]
) -> None:
    done = make(tmp_path, cache, **built_for)()
    assert done.returncode == 1
    assert all(fragment in done.stderr for fragment in (*fragments, "pipx install"))
    assert not cache.exists()
