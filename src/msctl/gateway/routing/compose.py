"""One JSON document out of several services' answers: the parts that need no I/O.

A branch that failed is null in the document and named in a field of the response; when all have
failed there is no document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

from msctl.gateway.message.headers import Field, Fields
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.model.project import ComposeSpec

PARTIAL = b"X-Msctl-Partial"
"""Names the branches that are missing, each with the status it had: `orders;status=504`."""

MAX_BRANCH = 4 * 1024 * 1024
"""Bytes of one branch's answer that are kept in memory."""

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_NOT_PASSED_ON = frozenset(
    {b"accept-encoding", b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"}
    | {b"if-unmodified-since", b"content-type", b"content-encoding", b"accept"}
)


class Branch(NamedTuple):
    """What came of one branch. `body` is None where it failed; `status` is then why."""

    name: str
    status: int
    body: bytes | None
    detail: str = ""


def branch_targets(spec: ComposeSpec, variables: Mapping[str, str]) -> dict[str, str]:
    """The target of each branch. A variable's value can only ever be one element or parameter."""

    def fill(match: re.Match[str]) -> str:
        return quote(
            unquote(variables.get(match[1], ""), errors="surrogateescape"), safe="", errors="surrogateescape"
        )

    return {name: _VARIABLE.sub(fill, path) for name, path in spec.branches.items()}


def branch_fields(fields: Fields) -> Fields:
    """What of the client's request goes to every branch: not what is about the whole document."""
    kept = [field for field in fields if field[0].lower() not in _NOT_PASSED_ON]
    return [*kept, (b"Accept", b"application/json")]


def branch_result(name: str, status: int, fields: Fields, body: bytes) -> Branch:
    """Take a branch's answer in, if it is a JSON document."""
    if not 200 <= status < 300:
        return Branch(name, status, None, f"it answered {status}")
    if any(key.lower() == b"content-encoding" for key, _ in fields):
        return Branch(name, 502, None, "its answer is in a content coding that was not asked for")
    try:
        json.loads(body)
    except ValueError:
        return Branch(name, 502, None, "its answer is not JSON")
    return Branch(name, status, body.strip())


def document(branches: list[Branch]) -> tuple[bytes, tuple[Field, ...]]:
    """The body and the fields that belong to it; raises ProblemError (502) where nothing came."""
    missing = [branch for branch in branches if branch.body is None]
    if len(missing) == len(branches):
        reasons = {branch.name: branch.detail for branch in branches}
        raise ProblemError(
            Problem(502, "None of the services behind this document answered.", extra={"branches": reasons})
        )
    members = [json.dumps(branch.name).encode() + b":" + (branch.body or b"null") for branch in branches]
    body = b"{" + b",".join(members) + b"}\n"
    if not missing:
        return body, ()
    partial = ", ".join(f"{branch.name};status={branch.status}" for branch in missing)
    return body, ((PARTIAL, partial.encode()),)
