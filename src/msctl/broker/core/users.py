"""Users, their password hashes, tags and permissions, as RabbitMQ's internal backend keeps them. Pure."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import md5, sha256, sha512
from secrets import token_bytes

from msctl.broker.core.patterns import Pattern
from msctl.secret import Secret

SALT_SIZE = 4
ADMINISTRATOR = "administrator"
IMPERSONATOR = "impersonator"
"""The tag of users that may publish with another user's name in `user_id`."""
LOOPBACK_USERS = frozenset({"guest"})
"""Users that may log in from this machine only, RabbitMQ's `loopback_users`."""


class Algorithm(StrEnum):
    """RabbitMQ's names of its password hashing modules."""

    SHA256 = "rabbit_password_hashing_sha256"
    SHA512 = "rabbit_password_hashing_sha512"
    MD5 = "rabbit_password_hashing_md5"

    def digest(self, data: bytes) -> bytes:
        return _DIGESTS[self](data)


_DIGESTS: dict[Algorithm, Callable[[bytes], bytes]] = {
    Algorithm.SHA256: lambda data: sha256(data).digest(),
    Algorithm.SHA512: lambda data: sha512(data).digest(),
    # RabbitMQ's hash before 3.6, still found in exported definitions.
    Algorithm.MD5: lambda data: md5(data, usedforsecurity=False).digest(),
}


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A salted hash: 4 bytes of salt, then the digest of salt and password."""

    algorithm: Algorithm
    salted: bytes = field(repr=False)

    @classmethod
    def make(cls, password: Secret, algorithm: Algorithm = Algorithm.SHA256) -> PasswordHash:
        salt = token_bytes(SALT_SIZE)
        return cls(algorithm, salt + algorithm.digest(salt + _encode(password.reveal())))

    @classmethod
    def decode(cls, text: str, algorithm: Algorithm) -> PasswordHash:
        """Read the base64 text of definitions. Raises ValueError for what cannot be such a hash."""
        salted = b64decode(text, validate=True)
        size = SALT_SIZE + len(algorithm.digest(b""))
        if len(salted) != size:
            raise ValueError(f"{len(salted)} bytes where {algorithm} has {size}")
        return cls(algorithm, salted)

    @property
    def encoded(self) -> str:
        return b64encode(self.salted).decode()

    def verify(self, password: bytes) -> bool:
        """Compare in time that does not depend on where the digests differ."""
        salt, digest = self.salted[:SALT_SIZE], self.salted[SALT_SIZE:]
        return hmac.compare_digest(digest, self.algorithm.digest(salt + password))


@dataclass(frozen=True, slots=True)
class User:
    """A user; without a password nobody can log in as this user. `limits` are RabbitMQ's user limits."""

    name: str
    password: PasswordHash | None = None
    tags: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may do in one virtual host: patterns of the names of queues and exchanges."""

    configure: Pattern
    write: Pattern
    read: Pattern

    @classmethod
    def of(cls, configure: str = ".*", write: str = ".*", read: str = ".*") -> Permissions:
        """Raises PatternError."""
        return cls(Pattern(configure), Pattern(write), Pattern(read))


@dataclass(frozen=True, slots=True)
class TopicPermissions:
    """The routing keys with which a user may publish to a topic exchange or bind queues to it.

    `{username}` and `{vhost}` in a pattern stand for the user and the virtual host.
    """

    write: str
    read: str

    def __post_init__(self) -> None:
        """Raises PatternError."""
        Pattern(self.write)
        Pattern(self.read)


class Users:
    """All users of a broker. `generation` increases with each change of users and permissions, and `changed`
    is called."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.generation = 0
        self._changed = changed
        self._users: dict[str, User] = {}
        self._permissions: dict[tuple[str, str], Permissions] = {}
        self._topics: dict[tuple[str, str, str], TopicPermissions] = {}

    def __len__(self) -> int:
        return len(self._users)

    def all(self) -> list[User]:
        return list(self._users.values())

    def get(self, name: str) -> User | None:
        return self._users.get(name)

    def put(self, user: User) -> None:
        """Add or replace a user; its permissions stay."""
        self._users[user.name] = user
        self._count()

    def delete(self, name: str) -> bool:
        """Delete a user with its permissions; False if there is none."""
        if self._users.pop(name, None) is None:
            return False
        self._drop(lambda user, _vhost: user == name)
        return True

    # --- permissions ---

    def permissions(self) -> dict[tuple[str, str], Permissions]:
        """All permissions by user and virtual host."""
        return dict(self._permissions)

    def topic_permissions(self) -> dict[tuple[str, str, str], TopicPermissions]:
        """All topic permissions by user, virtual host and exchange."""
        return dict(self._topics)

    def permissions_of(self, user: str, vhost: str) -> Permissions | None:
        return self._permissions.get((user, vhost))

    def topic_permissions_of(self, user: str, vhost: str, exchange: str) -> TopicPermissions | None:
        return self._topics.get((user, vhost, exchange))

    def permit(self, user: str, vhost: str, permissions: Permissions) -> None:
        self._permissions[user, vhost] = permissions
        self._count()

    def revoke(self, user: str, vhost: str) -> bool:
        """Remove a user's permissions in a virtual host; False if there are none."""
        found = self._permissions.pop((user, vhost), None)
        self._count()
        return found is not None

    def permit_topic(self, user: str, vhost: str, exchange: str, permissions: TopicPermissions) -> None:
        self._topics[user, vhost, exchange] = permissions
        self._count()

    def revoke_topic(self, user: str, vhost: str, exchange: str | None = None) -> bool:
        """Remove topic permissions for one exchange, or for all; False if there are none."""
        found = [key for key in self._topics if key[:2] == (user, vhost) and exchange in (None, key[2])]
        for key in found:
            del self._topics[key]
        self._count()
        return bool(found)

    def forget_vhost(self, vhost: str) -> None:
        """Remove all permissions in a deleted virtual host."""
        self._drop(lambda _user, other: other == vhost)

    def _drop(self, gone: Callable[[str, str], bool]) -> None:
        self._permissions = {key: each for key, each in self._permissions.items() if not gone(*key)}
        self._topics = {key: each for key, each in self._topics.items() if not gone(*key[:2])}
        self._count()

    def _count(self) -> None:
        self.generation += 1
        self._changed()

    # --- logging in ---

    def refusal(self, name: str, password: bytes, *, loopback: bool) -> str | None:
        """Why a user may not log in with this password from where it connects; None if it may.

        The texts are for the broker's log; a client is told nothing of them.
        """
        user = self._users.get(name)
        expected = None if user is None else user.password
        if not password:
            return f"user '{name}' attempted to log in with a blank password"
        # An unknown user takes as long as a wrong password.
        if not (expected or _NOBODY).verify(password) or expected is None:
            return f"user '{name}' - invalid credentials"
        if name in LOOPBACK_USERS and not loopback:
            return f"user '{name}' can only connect via localhost"
        return None


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


_NOBODY = PasswordHash(Algorithm.SHA256, bytes(SALT_SIZE + 32))
