"""What is set at run time is there after a restart; what the configuration sets is the configuration's."""

from __future__ import annotations

from pathlib import Path

from msctl.broker.core.definitions.document import Definitions, read_document
from msctl.broker.core.policies import make_policy
from msctl.broker.core.users import PasswordHash, Permissions, User
from msctl.broker.core.vhost import VhostInfo
from msctl.broker.storage.settings import Settings
from msctl.secret import Secret
from tests.unit.broker.storage.run import Run


def user(name: str, password: str) -> User:
    return User(name, PasswordHash.make(Secret(password)), tags=("management",))


def started(folder: Path, definitions: Definitions | None = None) -> tuple[Run, Settings]:
    run = Run(folder)
    settings = Settings(run.broker)
    if definitions is not None:
        settings.configure(definitions)
    assert settings.restore(run.storage) == []
    return run, settings


def test_users_vhosts_permissions_and_policies_survive_and_go_when_they_are_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "project" / "broker"
    run, settings = started(folder)
    broker = run.broker
    broker.users.put(user("ann", "secret"))
    broker.add_vhost("shop", VhostInfo("the shop"))
    broker.users.permit("ann", "shop", Permissions.of(write="orders"))
    broker.global_parameters["name"] = "mine"
    broker.vhosts["shop"].set_policy(make_policy("short", "^q", {"max-length": 3}, priority=1))
    settings.save()
    settings.save()
    run.turn()
    run.kill()

    run, settings = started(folder)
    broker = run.broker
    assert broker.users.refusal("ann", b"secret", loopback=True) is None
    assert broker.users.refusal("ann", b"other", loopback=True) is not None
    assert broker.vhosts["shop"].info.description == "the shop"
    permissions = broker.users.permissions_of("ann", "shop")
    assert permissions is not None
    assert permissions.write.text == "orders"
    assert broker.global_parameters == {"name": "mine"}
    queue = broker.vhosts["shop"].declare_queue(
        "q", None, durable=True, exclusive=False, auto_delete=False, arguments={}
    )
    assert queue.options.max_length == 3
    broker.delete_user("ann")
    broker.delete_vhost("shop")
    settings.save()
    run.turn()
    run.kill()

    run, _ = started(folder)
    assert run.broker.users.get("ann") is None
    assert list(run.broker.vhosts) == ["/"]
    run.kill()


def test_what_is_configured_is_not_stored(tmp_path: Path) -> None:
    folder = tmp_path / "project" / "broker"
    configured, problems = read_document({"users": [{"name": "app", "password": "a", "tags": ""}]})
    assert not problems.errors
    run, settings = started(folder, configured)
    run.broker.users.put(user("app", "changed"))
    run.broker.users.put(user("guest", "changed"))
    settings.save()
    run.turn()
    run.kill()
    run, _ = started(folder, configured)
    assert run.broker.users.get("app") is None  # the configuration puts it
    assert run.broker.users.refusal("guest", b"guest", loopback=True) is None
    run.kill()
