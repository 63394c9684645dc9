"""Password hashes of a htpasswd file, verified with the standard library. Pure.

`$6$` and `$5$` (SHA-crypt, https://www.akkadia.org/drepper/SHA-crypt.txt) of `openssl passwd -6` and
`mkpasswd`, `$apr1$` (Apache's MD5) of `htpasswd`, `{SHA}` and `{SSHA}` of LDAP. bcrypt (`$2y$`) only with the
package bcrypt: Python has no implementation of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from hmac import compare_digest
from importlib.util import find_spec
from typing import Any

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHA_CRYPT = re.compile(
    r"\$(?P<kind>[56])\$(?:rounds=(?P<rounds>[0-9]{1,9})\$)?(?P<salt>[^$]{1,16})\$(?P<sum>[./0-9A-Za-z]+)"
)
_APR1 = re.compile(r"\$apr1\$(?P<salt>[^$]{1,8})\$(?P<sum>[./0-9A-Za-z]{22})")
_BCRYPT = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./0-9A-Za-z]{53}")
_LDAP = re.compile(r"\{(?P<kind>S?SHA)\}(?P<sum>[A-Za-z0-9+/=]+)")

DEFAULT_ROUNDS = 5000
MAX_ROUNDS = 200_000
"""More rounds would take seconds of a core for each new password."""
MAX_COST = 14


class HashError(ValueError):
    """A hash that cannot be verified; the text says why."""


Verify = Callable[[bytes], bool]
"""Returns whether a password is the right one; takes milliseconds of a core."""


def verifier(text: str) -> Verify:
    """Return what verifies a password against the hash `text`; raises HashError."""
    if match := _SHA_CRYPT.fullmatch(text):
        rounds = DEFAULT_ROUNDS if match["rounds"] is None else max(1000, int(match["rounds"]))
        if rounds > MAX_ROUNDS:
            raise HashError(f"more than {MAX_ROUNDS} rounds")
        crypt = _sha512_crypt if match["kind"] == "6" else _sha256_crypt
        salt, expected = match["salt"].encode(), match["sum"].encode()
        return lambda password: compare_digest(crypt(password, salt, rounds).encode(), expected)
    if match := _APR1.fullmatch(text):
        salt, expected = match["salt"].encode(), match["sum"].encode()
        return lambda password: compare_digest(_apr1(password, salt).encode(), expected)
    if match := _LDAP.fullmatch(text):
        return _ldap(match["kind"], match["sum"])
    if match := _BCRYPT.fullmatch(text):
        return _bcrypt(text, int(match["cost"]))
    raise HashError("not a hash of a kind that is known: make one with `openssl passwd -6`")


def _ldap(kind: str, encoded: str) -> Verify:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise HashError("not base64") from None
    digest, salt = data[:20], data[20:]
    if len(digest) != 20 or bool(salt) != (kind == "SSHA"):
        raise HashError("not a SHA-1 digest")
    return lambda password: compare_digest(hashlib.sha1(password + salt).digest(), digest)  # noqa: S324 - LDAP's


def _bcrypt(text: str, cost: int) -> Verify:
    if find_spec("bcrypt") is None:
        raise HashError(
            "bcrypt needs the package bcrypt: install it, or make a hash with `openssl passwd -6`"
        )
    if cost > MAX_COST:
        raise HashError(f"a bcrypt cost of more than {MAX_COST}")
    import bcrypt  # type: ignore[import-not-found,unused-ignore] # only where it is installed

    return lambda password: bool(bcrypt.checkpw(password[:72], text.encode()))


def _sha256_crypt(password: bytes, salt: bytes, rounds: int) -> str:
    digest = _sha_crypt(hashlib.sha256, password, salt, rounds)
    out, (a, b, c) = "", (0, 10, 20)
    for _ in range(10):
        out += _encode(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = c + 1, a + 1, b + 1
    return out + _encode(digest[31] << 8 | digest[30], 3)


def _sha512_crypt(password: bytes, salt: bytes, rounds: int) -> str:
    digest = _sha_crypt(hashlib.sha512, password, salt, rounds)
    out, (a, b, c) = "", (0, 21, 42)
    for _ in range(21):
        out += _encode(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = b + 1, c + 1, a + 1
    return out + _encode(digest[63], 2)


def _sha_crypt(hashed: Callable[[bytes], Any], password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the digest of SHA-crypt; the numbers are the steps of its specification."""
    length = len(password)
    alternate = hashed(password + salt + password).digest()  # 4 to 8
    data = password + salt + _repeated(alternate, length)  # 9, 10
    bits = length
    while bits:  # 11
        data += alternate if bits & 1 else password
        bits >>= 1
    digest: bytes = hashed(data).digest()  # 12
    p = _repeated(hashed(password * length).digest(), length)  # 13 to 16
    s = _repeated(hashed(salt * (16 + digest[0])).digest(), len(salt))  # 17 to 20
    for number in range(rounds):  # 21
        step = p if number & 1 else digest
        if number % 3:
            step += s
        if number % 7:
            step += p
        digest = hashed(step + (digest if number & 1 else p)).digest()
    return digest


def _apr1(password: bytes, salt: bytes) -> str:
    """Return the digest of Apache's variant of MD5-crypt."""
    md5 = hashlib.md5
    alternate = md5(password + salt + password).digest()
    data = password + b"$apr1$" + salt + _repeated(alternate, len(password))
    bits = len(password)
    while bits:
        data += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    digest = md5(data).digest()
    for number in range(1000):
        step = password if number & 1 else digest
        if number % 3:
            step += salt
        if number % 7:
            step += password
        digest = md5(step + (digest if number & 1 else password)).digest()
    out = "".join(
        _encode(digest[a] << 16 | digest[a + 6] << 8 | digest[12 + a if a < 4 else 5], 4) for a in range(5)
    )
    return out + _encode(digest[11], 2)


def _repeated(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encode(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * i & 63] for i in range(count))
