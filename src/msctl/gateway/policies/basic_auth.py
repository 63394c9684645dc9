"""HTTP Basic authentication (RFC 7617) against a list of users with hashed passwords. Pure.

A hash takes milliseconds of a core, so a password that was right is remembered, as a digest with a key of
this process: `remembered` answers for it at once, and only other passwords go through `verify`, which the
gateway calls in a thread. An unknown user costs as much as a known one.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.policies.auth import credential, find_secret, unauthorized
from msctl.gateway.policies.password_hash import HashError, Verify, verifier
from msctl.model.route_policies import BasicAuthSpec
from msctl.secret import Secret

MAX_REMEMBERED = 1024
MAX_PASSWORD = 256
"""The bytes of a password: more are refused unread, since hashing takes the square of the length."""


class Login(NamedTuple):
    """A user name and a password, as sent."""

    user: str
    password: bytes


class BasicAuth:
    """The users of one route."""

    def __init__(self, users: Mapping[str, Verify], realm: str) -> None:
        self._users = dict(users)
        self._decoy = next(iter(self._users.values()))
        self._challenge = f'Basic realm="{realm}", charset="UTF-8"'
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, str] = OrderedDict()

    def login(self, fields: Sequence[Field]) -> Login:
        """Return what the request sent; raises ProblemError (400, 401)."""
        scheme, _, encoded = (credential(fields, "Authorization") or b"").partition(b" ")
        if scheme.lower() != b"basic" or not encoded:
            raise unauthorized("This route requires a user name and a password.", self._challenge)
        try:
            user, mark, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
            name = user.decode()
        except (binascii.Error, ValueError):
            raise unauthorized("The Authorization field is not valid.", self._challenge) from None
        if not mark or len(password) > MAX_PASSWORD:
            raise self.refusal()
        return Login(name, password)

    def remembered(self, login: Login) -> bool:
        """Return whether this password was verified before."""
        digest = self._digest(login)
        if digest not in self._right:
            return False
        self._right.move_to_end(digest)
        return True

    def user(self, fields: Sequence[Field]) -> str:
        """Return the user of a request whose password was verified; raises ProblemError (400, 401)."""
        login = self.login(fields)
        if not self.remembered(login):
            raise self.refusal()
        return login.user

    def verify(self, login: Login) -> bool:
        """Return whether the password is right. Slow."""
        check = self._users.get(login.user)
        if check is None:
            self._decoy(login.password)
            return False
        if not check(login.password):
            return False
        self._right[self._digest(login)] = login.user
        while len(self._right) > MAX_REMEMBERED:
            self._right.popitem(last=False)
        return True

    def refusal(self) -> ProblemError:
        return unauthorized("The user name or the password is not right.", self._challenge)

    def _digest(self, login: Login) -> bytes:
        user = login.user.encode()
        return blake2b(b"%d:" % len(user) + user + login.password, key=self._key, digest_size=32).digest()


def basic_auth(spec: BasicAuthSpec, key: str, found: Mapping[str, Secret]) -> BasicAuth:
    """Read the users of a file or a variable, from `found`; raises ConfigError, naming the file's `key`."""
    name = spec.env if spec.env is not None else str(spec.file)
    hint = "write a line such as ann:HASH, with a HASH of: openssl passwd -6"
    if spec.env is not None:
        text = find_secret(spec.env, f"{key}.env", found, hint).reveal()
        where = f"{key}.env: in the environment variable {name}, entry"
    else:
        secret = found.get(name)
        if secret is None:
            raise ConfigError(f"{key}.file: cannot read {name}", hint=hint)
        text, where = secret.reveal(), f"{key}.file: {name}: line"
    lines = text.replace(",", "\n").split("\n") if spec.env is not None else text.split("\n")
    users: dict[str, Verify] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        user, mark, hashed = line.partition(":")
        if not mark or not user or not hashed:
            raise ConfigError(f"{where} {number} is not user:hash", hint=hint)
        try:
            users[user] = verifier(hashed)
        except HashError as error:
            raise ConfigError(f"{where} {number}: the password of {user}: {error}", hint=hint) from None
    if not users:
        raise ConfigError(f"{where.rpartition(':')[0]}: there are no users", hint=hint)
    return BasicAuth(users, spec.realm)
