"""Reads `broker.definitions`: RabbitMQ's definitions for the embedded broker, from a JSON file."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from msctl.broker.core.definitions.document import Definitions, read_document
from msctl.broker.core.definitions.entries import Problems
from msctl.errors import ConfigError
from msctl.files import read_named_by
from msctl.model.broker_url import BrokerUrl
from msctl.model.project import Project

LARGEST_FILE = 64 * 1024 * 1024


def read_definitions(project: Project, url: BrokerUrl) -> tuple[Definitions, Problems] | None:
    """The definitions of the project's broker at `url`, with warnings; None if it has none.

    Raises ConfigError that names the file and the JSON path of the first error.
    """
    path = project.broker.definitions
    if path is None:
        return None
    key = f"{project.source}: broker.definitions"
    content = _read(key, path)
    definitions, problems = read_document(_decode(content, path), users={url.user}, vhosts={url.vhost})
    if problems.errors:
        others = len(problems.errors) - 1
        more = f" (and {others} more errors)" if others else ""
        raise ConfigError(
            f"{path.name}: {problems.errors[0]}{more}",
            hint=f"the file is {path}; RabbitMQ writes such a file with: rabbitmqctl export_definitions FILE",
        )
    definitions.source, definitions.digest = path.name, sha256(content).digest()
    return definitions, problems


def read_json(project: Project) -> Any:
    """The file as it is. Raises ConfigError."""
    path = project.broker.definitions
    if path is None:
        return None
    return _decode(_read(f"{project.source}: broker.definitions", path), path)


def _read(key: str, path: Path) -> bytes:
    return read_named_by(key, path, LARGEST_FILE, f"{LARGEST_FILE // 1024**2} MiB")


def _decode(content: bytes, path: Path) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name}: no JSON: {error}", hint=f"the file is {path}") from None
