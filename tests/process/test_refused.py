"""A refused command changes nothing."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.support.course import Course
from tests.support.ports import reserved_port

SERVER = "python3 -m http.server --bind 127.0.0.1 {}"


@pytest.fixture
def own(course: Course) -> Course:
    """The course's fixture for a test that writes a msctl.toml of its own."""
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


def write(course: Course, *services: str) -> None:
    text = "\n".join((*services, "[gateway]\nenabled = false\n"))
    (course.msctl.folder / "msctl.toml").write_text(text)


def instances(course: Course, service: str) -> list[dict[str, Any]]:
    (found,) = (one for one in course.msctl.status()["services"] if one["name"] == service)
    return list(found["instances"])


def test_a_second_instance_that_cannot_have_the_fixed_port_is_not_wanted_any_more(own: Course) -> None:
    with reserved_port() as port:
        fixed = f'[services.fixed]\ncommand = "{SERVER.format(port)}"\nport = {port}\nrestart = "no"\n'
        write(own, fixed)
        own.msctl.ok("up", "-d")
        (before,) = instances(own, "fixed")
        refused = own.msctl.run("scale", "fixed=2")
        assert refused.returncode == 1
        assert "$PORT" in refused.stderr
        (after,) = instances(own, "fixed")
        assert (after["pid"], after["state"]) == (before["pid"], "ready")
        own.msctl.ok("restart", "fixed")
        assert len(instances(own, "fixed")) == 1


def test_an_instance_beside_a_declared_port_listens_on_its_own(own: Course) -> None:
    with reserved_port() as port:
        write(own, f'[services.free]\ncommand = "{SERVER.format("$PORT")}"\nport = {port}\n')
        own.msctl.ok("up", "-d")
        own.msctl.ok("scale", "free=2")
        assert [one["state"] for one in instances(own, "free")] == ["ready", "ready"]


@pytest.mark.parametrize("count", ["-1", "1001", "many"])
def test_a_count_out_of_range_is_refused_for_all(own: Course, count: str) -> None:
    write(own, *(f'[services.{name}]\ncommand = "sleep 600"\n' for name in ("one", "two")))
    own.msctl.ok("up", "-d")
    assert own.msctl.run("scale", "one=2", f"two={count}").returncode == 2
    assert len(instances(own, "one")) == 1


def test_a_restart_whose_dependency_cannot_start_stops_nothing(own: Course) -> None:
    with reserved_port() as port:
        write(
            own,
            f'[services.db]\ncommand = "{SERVER.format("$PORT")}"\nport = {port}\n',
            '[services.api]\ncommand = "sleep 600"\ndepends_on = ["db"]\n',
        )
        own.msctl.ok("up", "-d")
        own.msctl.ok("stop", "db")
        (before,) = instances(own, "api")
        with socket.create_server(("127.0.0.1", port)):
            assert own.msctl.run("restart", "api").returncode == 5
        (after,) = instances(own, "api")
        assert (after["pid"], after["state"]) == (before["pid"], before["state"])
