"""All that is wrong with a configuration is said at once, each with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.config.problems import CombinedConfigError
from msctl.config.reading.load import load
from msctl.errors import ConfigError, ExitCode

MANY = """\
[services.api]
comand = "node api.js"
port = "no"
routes = ["/ok", "bad", { path = "/x", methods = 5 }]
restart = "${UNSET}"
[services.db]
command = "postgres"
health = { tcp = true, retries = 0 }
[gateway]
port = 99999
[brokre]
url = "amqp://x"
"""


def errors(text: str, folder: Path) -> list[str]:
    (folder / "msctl.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(cwd=folder, env={})
    assert caught.value.exit_code is ExitCode.USAGE
    found = caught.value.errors if isinstance(caught.value, CombinedConfigError) else (caught.value,)
    for error in found:
        assert error.message in caught.value.message
    return [error.message for error in found]


def test_every_key_that_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    found = errors(MANY, tmp_path)
    for key in (
        ":2: services.api.comand",
        ":3: services.api.port",
        ":4: services.api.routes[1]",
        ":4: services.api.routes[2].methods",
        ":5: services.api.restart",
        ":8: services.db.health",
        ":10: gateway.port",
        ":11: brokre",
    ):
        assert sum(key in message for message in found) == 1, (key, found)
    assert len(found) == 8


def test_every_conflict_between_keys_is_named(tmp_path: Path) -> None:
    found = errors(
        '[services.a]\nport = 9000\ncommand = "x"\ndepends_on = ["nobody", "broker"]\nroutes = ["/x"]\n'
        '[services.b]\nport = 9000\ncommand = "x"\nroutes = ["/x"]\n[services.c]\nport = 1\n',
        tmp_path,
    )
    assert len(found) == 5
    for part in ("unknown service", "the broker is not a service", "port 9000", "/x", "needs app"):
        assert any(part in message for message in found), part


def test_one_error_is_shown_as_it_is(tmp_path: Path) -> None:
    assert errors("[gateway]\nport = 0.5\n", tmp_path)[0].startswith("msctl.toml:2: gateway.port: expected")


def test_a_thousand_errors_do_not_fill_the_screen(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text("[gateway]\n" + "".join(f"x{n} = 1\n" for n in range(1000)))
    with pytest.raises(ConfigError, match="1000 errors") as caught:
        load(cwd=tmp_path, env={})
    assert len(caught.value.message.splitlines()) < 30
