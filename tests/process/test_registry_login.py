"""A real etcd that wants TLS, a user and a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.certificates import Certificates
from tests.support.cli import Msctl
from tests.support.etcd import Etcd, running_etcd
from tests.support.ports import reserved_port
from tests.support.waiting import eventually

PASSWORD = "p/w+x#y=@z"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    authority = Certificates.of(tmp_path)
    certificate, key = authority.make("etcd")
    with ExitStack() as stack:
        port, peers = (stack.enter_context(reserved_port()) for _ in range(2))
        options = ("--cert-file", str(certificate), "--key-file", str(key))
        made = Etcd(tmp_path / "etcd", "localhost", port, peers, options=options, scheme="https")
        made.env["ETCDCTL_CACERT"] = str(tmp_path / "ca.pem")
        stack.enter_context(running_etcd(made))
        made.ctl("user", "add", f"root:{PASSWORD}")
        made.ctl("user", "grant-role", "root", "root")
        made.ctl("auth", "enable")
        made.env["ETCDCTL_USER"] = f"root:{PASSWORD}"
        yield made


def test_two_stacks_find_each_other_and_a_wrong_password_is_said_and_not_shown(
    etcd: Etcd, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:

        def machine(name: str, password: str, service: str) -> Msctl:
            folder = tmp_path / name
            folder.mkdir()
            broker, management = (stack.enter_context(reserved_port()) for _ in range(2))
            (folder / "msctl.toml").write_text(
                f'[discovery]\nurl = "etcds://root:{quote(password, safe="")}@{etcd.address}"\n'
                f'ca = "../ca.pem"\nnamespace = "shop"\nttl = "3s"\n'
                f'[broker]\nmode = "embedded"\nurl = "amqp://127.0.0.1:{broker}"\n'
                f"management_port = {management}\n[gateway]\nport = 0\n"
                f'[services.users]\nroutes = ["/users"]\n{service}'
            )
            made = Msctl(folder, tmp_path_factory.mktemp("run"), {})
            stack.callback(made.run, "down")
            made.ok("up", "-d")
            return made

        machine("a", PASSWORD, 'command = "python3 -m http.server $PORT --bind $HOST"\nhealth = "/"\n')
        finding = machine("b", PASSWORD, "")
        eventually(lambda: finding.states()["users"] == "ready")
        assert finding.status()["registry"]["url"] == f"etcds://{etcd.address}"
        wrong = machine("c", "hunter2", "")
        eventually(lambda: "authentication failed" in wrong.status()["registry"]["reason"])
        eventually(lambda: wrong.status()["registry"]["state"] == "backoff")
        for text in (wrong.ok("logs", "-n", "50"), wrong.ok("status"), finding.ok("logs", "-n", "50")):
            assert "hunter2" not in text
            assert "p/w" not in text
            assert "p%2Fw" not in text
