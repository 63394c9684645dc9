"""What a registry says of one instance: written by a stack, read by the others. Pure.

A record comes from anybody who can write to the registry, so every field is checked before it is used.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from msctl.model.address import Address
from msctl.model.endpoint import Endpoint

SCHEMA = 1
"""The version of the format; a record of another one is ignored."""
MAX_RECORD = 16 * 1024
MAX_ROUTES = 100
HIGHEST_WEIGHT = 65535
_HIGHEST_PORT = 65535
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_TEXT = re.compile(r"[\x20-\x7e]{0,500}")


class BadRecordError(ValueError):
    """A record that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """An instance of `service` at an address, announced by `stack` (a random name of one run)."""

    service: str
    instance: str
    host: str
    port: int
    stack: str = ""
    weight: int = 1
    routes: tuple[str, ...] = ()
    health: str | None = None

    @property
    def address(self) -> str:
        return str(Address(self.host, self.port))

    @property
    def key(self) -> str:
        """What tells it from all others of its namespace."""
        return f"{self.service}/{self.address}"

    @property
    def name(self) -> str:
        """The name of the instance among those of all machines."""
        return f"{self.instance}@{self.address}"

    def endpoint(self, origin: str) -> Endpoint:
        """Where its requests go."""
        return Endpoint(
            self.service,
            self.name,
            base_url=f"http://{self.address}",
            weight=float(self.weight),
            origin=origin,
        )

    def fields(self) -> dict[str, object]:
        """Its document."""
        return {
            "schema": SCHEMA,
            "service": self.service,
            "instance": self.instance,
            "host": self.host,
            "port": self.port,
            "stack": self.stack,
            "weight": self.weight,
            "routes": list(self.routes),
            "health": self.health,
        }


def parse_record(data: bytes, key: str) -> Record:
    """Return the record that was found at `key`; raises BadRecordError."""
    if len(data) > MAX_RECORD:
        raise BadRecordError(f"it is larger than {MAX_RECORD} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRecordError("it is not JSON") from None
    if not isinstance(found, dict):
        raise BadRecordError("it is no JSON object")
    record = read_record(found)
    if record.key != key:
        raise BadRecordError(f"it describes {record.key}")
    return record


def read_record(found: Mapping[str, object]) -> Record:
    """Return the record with these fields; raises BadRecordError. Unknown fields are left out."""
    if found.get("schema") != SCHEMA:
        raise BadRecordError(f"its schema is not {SCHEMA}")
    routes = found.get("routes") or []
    if not isinstance(routes, list) or len(routes) > MAX_ROUTES:
        raise BadRecordError("routes is not a list of paths")
    return Record(
        service=_text(found, "service", _NAME),
        instance=_text(found, "instance", _NAME),
        host=_host(found),
        port=_number(found, "port", _HIGHEST_PORT),
        stack=_text(found, "stack", _TEXT) if found.get("stack") else "",
        weight=_number(found, "weight", HIGHEST_WEIGHT) if "weight" in found else 1,
        routes=tuple(_text({"routes": route}, "routes", _TEXT) for route in routes),
        health=_text(found, "health", _TEXT) if found.get("health") is not None else None,
    )


def _text(found: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = found.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise BadRecordError(f"{name} is missing or wrong")
    return value


def _number(found: Mapping[str, object], name: str, highest: int) -> int:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
        raise BadRecordError(f"{name} is missing or wrong")
    return value


def _host(found: Mapping[str, object]) -> str:
    value = found.get("host")
    if isinstance(value, str):
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            if _HOST.fullmatch(value) and not value.rpartition(".")[2].isdecimal():
                return value
        else:
            if not (address.is_unspecified or address.is_multicast or "%" in value):
                return str(address)
    raise BadRecordError("host is missing or wrong")
