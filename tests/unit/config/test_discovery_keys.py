"""`[discovery]`, `discover`, `announce` and `weight`: what is declared, and what is refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from msctl.config.diff import diff
from msctl.config.reading.load import load
from msctl.config.render import redacted, to_toml
from msctl.errors import ConfigError
from msctl.model.project import Project
from msctl.model.services import as_run
from msctl.model.snapshots import Kind
from msctl.runtime.reload_request import refuse

ETCD = '[discovery]\nurl = "etcd://10.0.0.9"\n'
USERS = '[services.users]\napp = "shop:app"\nport = 8081\n'
Resolve = Callable[[str], Project]


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    def resolve(text: str) -> Project:
        (tmp_path / "msctl.toml").write_text(text)
        return load(cwd=tmp_path, env={}).project

    return resolve


def test_a_service_with_nothing_but_routes_is_found_in_the_registry(resolve: Resolve) -> None:
    project = resolve(f'{ETCD}[services.users]\nroutes = ["/users"]\n')
    spec = as_run(project).service("users")
    assert spec is not None
    assert (spec.kind, spec.only_discovered, [route.path for route in spec.routes]) == (
        Kind.REMOTE,
        True,
        ["/users"],
    )


def test_discover_without_a_registry_leaves_an_app_as_it_is(resolve: Resolve) -> None:
    spec = resolve(f"{USERS}discover = true\n").service("users")
    assert spec is not None
    assert (spec.kind, spec.only_discovered) == (Kind.HOSTED, False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[services.users]\nroutes = ["/users"]\n', "needs app, command, url or static"),
        (ETCD + USERS, "listens on 127.0.0.1"),
        (f'{ETCD}[services.users]\ncommand = "x"\nroutes = ["/"]\n', "listens on 127.0.0.1"),
        (f'{ETCD}[services.users]\napp = "shop:app"\nport = 8080\n', "gateway"),
        (f'{ETCD}[services.users]\napp = "shop:app"\nannounce = true\n', "no port of its own"),
        (f'{ETCD}[services.users]\nurl = "https://a.test"\nannounce = true\n', "http://"),
        (f'{ETCD}advertise = "0.0.0.0"\n', "advertise"),
        (f'{ETCD}ttl = "1s"\n', "ttl"),
        (f'{ETCD}token = "x"\n', "Consul"),
        (f'{ETCD}ca = "ca.pem"\n', "etcds://"),
        (f'{ETCD}cert = "a.pem"\n', "cert and key"),
        ('[discovery]\nnamespace = "shop"\n', "url"),
        ('[discovery]\nurl = "redis://a"\n', "scheme redis"),
        (f"{ETCD}{USERS}weight = 0\n", "weight"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(resolve: Resolve, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(text)
    said = f"{caught.value.message} {caught.value.hint}"
    assert reason in said
    assert "msctl.toml:" in said


@pytest.mark.parametrize(
    "text",
    [
        f'{ETCD}{USERS}host = "0.0.0.0"\n',
        f"{ETCD}{USERS}announce = false\n",
        f'{ETCD}advertise = "127.0.0.1"\n{USERS}',
        f'[discovery]\nurl = "etcd://localhost"\n{USERS}',
        f'{ETCD}[services.users]\napp = "shop:app"\nroutes = ["/"]\n',
        f'{ETCD}[services.users]\nurl = "http://127.0.0.1:8081"\n',
    ],
)
def test_what_other_machines_reach_or_are_not_told_is_accepted(resolve: Resolve, text: str) -> None:
    assert resolve(text).service("users") is not None


def test_the_registrys_secrets_are_not_shown(resolve: Resolve) -> None:
    shown = to_toml(resolve('[discovery]\nurl = "etcd://root:p/w@10.0.0.9"\nnamespace = "shop"\n'))
    shown += to_toml(redacted(resolve('[discovery]\nurl = "consul://10.0.0.9"\ntoken = "tok-en"\n')))
    assert "etcd://root:***@10.0.0.9:2379" in shown
    assert 'token = "***"' in shown
    assert "p/w" not in shown
    assert "tok-en" not in shown
    whole = to_toml(resolve('[discovery]\nurl = "etcd://root:p/w@10.0.0.9"\n'), show_secrets=True)
    assert "etcd://root:p%2Fw@10.0.0.9:2379" in whole


def test_reload_applies_announce_restarts_for_weight_and_refuses_another_registry(resolve: Resolve) -> None:
    here = '[discovery]\nurl = "etcd://localhost"\n'
    before = resolve(here + USERS)
    assert diff(before, resolve(f"{here}{USERS}announce = false\n")).updated == ("users",)
    assert diff(before, resolve(f"{here}{USERS}weight = 2\n")).restarted == ("users",)
    with pytest.raises(ConfigError, match=r"discovery\.url"):
        refuse(before, resolve(f'[discovery]\nurl = "etcd://127.0.0.1"\n{USERS}'))
