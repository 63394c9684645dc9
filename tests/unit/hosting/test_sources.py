"""The source files of a service are found by parsing, never by running code."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from msctl.hosting.sources import edited_since, files_of
from msctl.model.service_spec import ServiceSpec

Write = Callable[[str, str], Path]

FILES = {
    "shop/__init__.py": "",
    "shop/orders.py": "import web\nfrom . import money\nfrom .db import T\nimport shop.deep.one\n",
    "shop/money.py": "def pay():\n    import tools\n",
    "shop/db.py": "from shop import orders",
    "shop/deep/__init__.py": "",
    "shop/deep/one.py": "from .. import late\nfrom ..users import x",
    "shop/late.py": "",
    "shop/users.py": "",
    "shop/other.py": "",
    "tools.py": "def broken(:",
    "run.py": "import helper",
    "helper.py": "",
    "serve.mjs": "",
    "data.db": "",
    "prog": "",
}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (
            ServiceSpec("a", app="shop.orders:make"),
            "shop/__init__.py shop/orders.py shop/money.py shop/db.py shop/deep/__init__.py shop/deep/one.py "
            "shop/late.py shop/users.py tools.py",
        ),
        (ServiceSpec("a", app="shop.other:make"), "shop/__init__.py shop/other.py"),
        (ServiceSpec("a", app="nowhere:make"), ""),
        (ServiceSpec("a", command=("python3", "run.py", "data.db")), "run.py helper.py"),
        (ServiceSpec("a", command=("node", "serve.mjs", "--port=1")), "serve.mjs"),
        (ServiceSpec("a", command=("./prog", "", "x" * 5000, "/etc/hostname")), "prog"),
        (ServiceSpec("a", command=("/bin/sh", "-c", "true")), ""),
        (ServiceSpec("a", app="shop.orders:make", url="http://far:1"), ""),
    ],
)
def test_the_files_of_a_service_are_those_it_imports_or_names(
    write: Write, tmp_path: Path, spec: ServiceSpec, names: str
) -> None:
    for name, text in FILES.items():
        write(name, text)
    assert files_of(spec, tmp_path) == {tmp_path / name for name in names.split()}


def test_an_edit_is_seen_by_mtime_or_ctime(write: Write) -> None:
    old = write("old.py", "")
    gone = old.with_name("gone.py")
    when = old.stat().st_ctime + 60
    assert edited_since([old, gone], when) == []
    new = write("new.py", "")
    os.utime(new, (when + 1, when + 1))
    assert edited_since([old, new, gone], when) == [new]
    os.utime(new, (0, 0))  # its content is older than its coming
    assert edited_since([old, new], old.stat().st_ctime - 60) == [new, old]
