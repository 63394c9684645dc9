"""What `msctl config` prints: TOML that means the same project, a document, and where values came from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.config.reading.load import Resolved, load
from msctl.config.render import explain, redacted, to_document, to_toml, toml_value

FULL = r"""
[project]
name = "shop"
[services.one]
app = "shop.one:create_app"
host = "127.0.0.2"
port = 1
routes = ["/one", { path = "/two", exact = true, methods = ["GET"], headers = { X = "b\"c" }, hosts = ["h"] }]
depends_on = { two = "completed", three = "ready" }
autostart = false
replicas = 2
isolation = "process"
health = "/healthz"
liveness = true
restart = "no"
stop_timeout = "1m30s"
start_timeout = 0.25
env = { A = "$${x} and $$$${y}", "B" = "line\nline\u0001", C = "$PORT" }
cwd = "sub"
[services.two]
command = ["run", "it's", "$PORT"]
oneshot = true
success_exit_codes = [3]
ready_log = '^"up"\d\$'
[services.three]
command = "sleep 1"
url = "http://far:1"
[[services.three.routes]]
path = "/{id}"
rewrite = "/there"
retries = 0
[gateway]
ready_path = ""
trusted_peers = ["10.0.0.0/8"]
retry_budget = 0.5
max_body = "1KiB"
response_timeout = 0.0015
[broker]
mode = "local"
url = "amqp://u:secret@h/v"
"""


@pytest.fixture
def full(tmp_path: Path) -> Resolved:
    (tmp_path / "sub").mkdir()
    (tmp_path / "msctl.toml").write_text(FULL)
    return load(cwd=tmp_path, env={})


@pytest.mark.parametrize("text", [FULL, "[gateway]\nenabled = false"])
def test_the_text_means_the_same_project(tmp_path: Path, text: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "msctl.toml").write_text(text)
    project = load(cwd=tmp_path, env={}).project
    (tmp_path / "msctl.toml").write_text(to_toml(project, show_secrets=True))
    assert load(cwd=tmp_path, env={}).project == project


def test_the_text_keeps_passwords_to_itself(full: Resolved) -> None:
    assert "secret" not in to_toml(full.project)
    assert 'url = "amqp://u:***@h/v"' in to_toml(full.project)


def test_keys_of_routes_are_nowhere_and_not_even_kept_by_what_is_shown(tmp_path: Path) -> None:
    text = '[services.x]\ncommand = "x"\nroutes = [{ path = "/x", api_key = { env = "KEYS" } }]\n'
    (tmp_path / "msctl.toml").write_text(text)
    (tmp_path / ".env").write_text("KEYS=me=hidden\n")
    resolved = load(cwd=tmp_path, env={})
    assert resolved.project.secrets
    assert redacted(resolved.project).secrets == {}
    shown = (to_toml(resolved.project), to_document(resolved.project), explain(resolved))
    assert "hidden" not in repr(shown)
    assert "KEYS" in repr(shown)


def test_the_document_is_json_without_passwords(full: Resolved) -> None:
    text = json.dumps(to_document(full.project))
    assert "secret" not in text
    assert "secret" in json.dumps(to_document(full.project, show_secrets=True))


def test_the_document_has_every_key(full: Resolved) -> None:
    document = to_document(full.project)
    assert document["schema"] == 1
    assert document["project"] == {"name": "shop"}
    services = document["services"]
    assert isinstance(services, dict)
    assert list(services) == ["one", "two", "three"]
    assert services["two"]["command"] == ["run", "it's", "$PORT"]
    assert services["two"]["app"] is None
    assert services["two"]["stop_timeout"] is None
    assert services["one"]["routes"][0] == "/one"


def test_explain_tells_each_value_and_its_origin(full: Resolved) -> None:
    rows = {row.key: (row.value, str(row.source)) for row in explain(full)}
    assert rows["services.one.port"] == ("1", "msctl.toml:7")
    assert rows["services.one.stop_timeout"] == ('"90s"', "msctl.toml:16")
    assert rows["services.one.depends_on"] == ('{ two = "completed", three = "ready" }', "msctl.toml:9")
    assert rows["services.two.app"] == ("", "default")
    assert rows["gateway.response_timeout"] == ('"0.0015s"', "msctl.toml:37")
    assert rows["gateway.enabled"] == ("true", "default")
    assert rows["broker.url"] == ('"amqp://u:***@h/v"', "msctl.toml:40")
    assert next(iter(rows)) == "project.name"


def test_explain_a_project_without_a_gateway(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text("[gateway]\nenabled = false")
    rows = {row.key: row.value for row in explain(load(cwd=tmp_path, env={}))}
    assert (rows["gateway.enabled"], rows["gateway.port"]) == ("false", "")


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_a_value_reads_back_as_it_was(value: object) -> None:
    assert tomllib.loads(f"key = {toml_value(value)}")["key"] == value


SECRET_ENV = """
[services.api]
command = "api"
[services.api.env]
LEVEL = "debug"
ANYTHING = "${FROM_DOTENV}"
MIXED = "a-${FROM_DOTENV}-b"
DOLLARS = "$${NOT_REPLACED}"
DB_PASSWORD = "hush-literal"
DATABASE = "postgres://me:hush-url@db/x"
"""


def test_secret_variables_of_a_service_are_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(SECRET_ENV)
    (tmp_path / ".env").write_text("FROM_DOTENV=hush-dotenv\n")
    resolved = load(cwd=tmp_path, env={})
    api = resolved.project.service("api")
    assert api is not None
    assert api.env["MIXED"] == "a-hush-dotenv-b"
    rows = {row.key: row.value for row in explain(resolved)}
    for text in (to_toml(resolved.project), json.dumps(to_document(resolved.project)), repr(rows)):
        assert "hush" not in text
        assert "debug" in text
        assert "NOT_REPLACED" in text
    assert '"***"' in rows["services.api.env"]
    assert "hush-dotenv" in to_toml(resolved.project, show_secrets=True)
