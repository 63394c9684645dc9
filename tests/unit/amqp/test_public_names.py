"""msctl.amqp exports the documented names, and importing it loads no client library."""

from __future__ import annotations

import subprocess
import sys

import pytest

import msctl.amqp


@pytest.mark.parametrize("name", msctl.amqp.__all__)
def test_public_name_is_importable(name: str) -> None:
    assert getattr(msctl.amqp, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Robust'"):
        _ = msctl.amqp.Robust


def test_importing_the_package_does_not_import_the_client_library() -> None:
    check = "import sys, msctl.amqp; sys.exit('aio_pika' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
