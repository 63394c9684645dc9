"""Composition of one JSON document from several services' responses. Pure.

A failed branch is null in the document and named in a response field. If all fail, the response is 502.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

from msctl.gateway.message.headers import Field, Fields
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.model.route_spec import ComposeSpec

PARTIAL = b"X-Msctl-Partial"
"""Names the failed branches with their status: `orders;status=504`."""

MAX_BRANCH = 4 * 1024 * 1024
"""The maximum size of one branch's response, in bytes."""

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_NOT_FORWARDED = frozenset(
    {b"accept-encoding", b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"}
    | {b"if-unmodified-since", b"content-type", b"content-encoding", b"accept"}
)


class Branch(NamedTuple):
    """The result of one branch. `body` is None if it failed."""

    name: str
    status: int
    body: bytes | None
    detail: str = ""


def branch_targets(spec: ComposeSpec, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the target of each branch. Values are encoded so that each stays one element or parameter."""

    def fill(match: re.Match[str]) -> str:
        return quote(
            unquote(variables.get(match[1], ""), errors="surrogateescape"), safe="", errors="surrogateescape"
        )

    return {name: _VARIABLE.sub(fill, path) for name, path in spec.branches.items()}


def branch_fields(fields: Fields) -> Fields:
    """Return the client's fields for the branches, without those about the whole document."""
    kept = [field for field in fields if field[0].lower() not in _NOT_FORWARDED]
    return [*kept, (b"Accept", b"application/json")]


def branch_result(name: str, status: int, fields: Fields, body: bytes) -> Branch:
    """Check that a branch's response is a JSON document."""
    if not 200 <= status < 300:
        return Branch(name, status, None, f"status {status}")
    if any(key.lower() == b"content-encoding" for key, _ in fields):
        return Branch(name, 502, None, "the response has a content coding")
    try:
        json.loads(body)
    except ValueError:
        return Branch(name, 502, None, "the response is not JSON")
    return Branch(name, status, body.strip())


def document(branches: list[Branch]) -> tuple[bytes, tuple[Field, ...]]:
    """Return the body and its fields; raises ProblemError (502) if every branch failed."""
    missing = [branch for branch in branches if branch.body is None]
    if len(missing) == len(branches):
        reasons = {branch.name: branch.detail for branch in branches}
        raise ProblemError(
            Problem(502, "Every service of this document failed.", extra={"branches": reasons})
        )
    members = [json.dumps(branch.name).encode() + b":" + (branch.body or b"null") for branch in branches]
    body = b"{" + b",".join(members) + b"}\n"
    if not missing:
        return body, ()
    partial = ", ".join(f"{branch.name};status={branch.status}" for branch in missing)
    return body, ((PARTIAL, partial.encode()),)
