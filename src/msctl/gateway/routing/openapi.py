"""One OpenAPI document of the services' documents (OpenAPI 3.0 and 3.1). Pure.

A path is where the gateway serves it: the route's, in front of the service's own where the route strips its
prefix; a path that no route leads to is left out. Components carry their service's name (`shop.Item`), so
equal names of two services stay apart, and so do the ids of operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_COMPONENTS = "#/components/"
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A route's path, without parameters, and whether the gateway strips it."""

    path: str
    stripped: bool


@dataclass(frozen=True, slots=True)
class ServiceDocument:
    """What a service says of itself, and where it is reached."""

    service: str
    places: Sequence[Place]
    document: Document


class UnusableDocumentError(Exception):
    """A document that is not OpenAPI 3, or nested too deeply."""


def check(document: object) -> Document:
    """Return `document` if it is OpenAPI 3. Raises UnusableDocumentError."""
    if not isinstance(document, dict) or not isinstance(document.get("paths", {}), dict):
        raise UnusableDocumentError("not an OpenAPI document")
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith("3."):
        raise UnusableDocumentError(f"OpenAPI {document.get('swagger', version)}, not 3")
    return document


def join(title: str, version: str, documents: Sequence[ServiceDocument]) -> Document:
    """Return the joined document. Raises UnusableDocumentError for one that nests too deeply."""
    newest = max((str(one.document["openapi"]) for one in documents), default="3.1.0")
    paths: Document = {}
    components: dict[str, Document] = {}
    tags: list[Document] = []
    for one in documents:
        renamed = _Renamed(one.service)
        general = one.document.get("security")
        for path, item in sorted(one.document.get("paths", {}).items()):
            if not isinstance(item, dict):
                continue
            for place in one.places:
                served = _served(place, path)
                if served is not None and served not in paths:
                    paths[served] = _item(renamed.walk(item), one.service, renamed.security(general))
        for kind, named in one.document.get("components", {}).items():
            if isinstance(named, dict):
                kept = components.setdefault(kind, {})
                kept.update({renamed.name(name): renamed.walk(value) for name, value in named.items()})
        info = one.document.get("info", {})
        about = info.get("description") or info.get("title") if isinstance(info, dict) else None
        tags.append({"name": one.service, **({"description": about} if isinstance(about, str) else {})})
    joined: Document = {
        "openapi": newest,
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
        "tags": tags,
    }
    if components:
        joined["components"] = components
    return joined


def _served(place: Place, path: str) -> str | None:
    """Return the path at which the gateway serves `path` of a service; None if it does not."""
    prefix = place.path.rstrip("/")
    if place.stripped:
        return f"{prefix}{path}" if path != "/" else prefix or "/"
    below = path == prefix or path.startswith(f"{prefix}/")
    return path if below else None


def _item(item: Document, service: str, security: object) -> Document:
    """Return a path's item with its operations marked as the service's."""
    out: Document = {}
    for key, value in item.items():
        if key in METHODS and isinstance(value, dict):
            operation = {name: part for name, part in value.items() if name != "servers"}
            operation["tags"] = [service]
            if isinstance(operation.get("operationId"), str):
                operation["operationId"] = f"{service}.{operation['operationId']}"
            if security is not None:
                operation.setdefault("security", security)
            out[key] = operation
        elif key != "servers":
            out[key] = value
    return out


class _Renamed:
    """Copies parts of a service's document, with its components' names changed."""

    def __init__(self, service: str) -> None:
        self._service = service

    def name(self, name: object) -> str:
        return f"{self._service}.{name}"

    def security(self, requirements: object) -> object:
        if not isinstance(requirements, list):
            return None
        return [
            {self.name(name): scopes for name, scopes in one.items()} if isinstance(one, dict) else one
            for one in requirements
        ]

    def walk(self, value: object, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise UnusableDocumentError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(value, list):
            return [self.walk(one, depth + 1) for one in value]
        if not isinstance(value, dict):
            return value
        return {key: self._entry(key, one, depth) for key, one in value.items()}

    def _entry(self, key: str, value: object, depth: int) -> Any:
        if key == "$ref" and isinstance(value, str):
            return self._reference(value)
        if key == "mapping" and isinstance(value, dict):  # of a discriminator
            return {name: self._mapped(one) for name, one in value.items()}
        if key == "security" and isinstance(value, list):
            return self.security(value)
        if key in ("example", "examples", "default", "enum", "const"):
            return value  # data, in which "$ref" means nothing
        return self.walk(value, depth + 1)

    def _mapped(self, reference: object) -> object:
        if not isinstance(reference, str):
            return reference
        # A schema's name alone is a reference, too.
        return self.name(reference) if reference.isidentifier() else self._reference(reference)

    def _reference(self, reference: str) -> str:
        kind, slash, name = reference.removeprefix(_COMPONENTS).partition("/")
        if not reference.startswith(_COMPONENTS) or not slash:
            return reference
        return f"{_COMPONENTS}{kind}/{self.name(name)}"


def places_of(routes: Sequence[tuple[str, bool]]) -> list[Place]:
    """Return where a service is reached, from its routes' paths and whether they are stripped."""
    found: Mapping[Place, None] = {
        Place(path.partition("/{")[0] or "/", stripped): None for path, stripped in routes
    }
    return list(found)
