"""The gateway's changes to the fields of a response: hosted, remote or its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msctl.gateway.message.headers import Field, Fields, edit, end_to_end
from msctl.model.route_spec import HeaderEdit

_FRAMING = frozenset({b"content-length"})
_REQUEST_ID = frozenset({b"x-request-id"})


class Edits(NamedTuple):
    """The changes to one response.

    `change` is the route's configuration; `owned` are the fields (lower case) that only the gateway may
    set; `extra` are the fields that it adds, and `tied` is the cookie for the instance that answers.
    """

    request_id: str
    change: HeaderEdit | None = None
    owned: frozenset[bytes] = _REQUEST_ID
    extra: tuple[Field, ...] = ()
    tied: tuple[Field, ...] = ()

    def apply(self, fields: Sequence[Field]) -> Fields:
        """Return the fields to send for the upstream's `fields`, without framing."""
        owned = self.owned | _FRAMING
        out = [field for field in end_to_end(fields) if field[0].lower() not in owned]
        if self.change is not None:
            out = edit(out, self.change)
        return self.sign(out)

    def sign(self, fields: Fields) -> Fields:
        """Add the gateway's own fields."""
        fields += self.extra
        fields += self.tied
        fields.append((b"X-Request-Id", self.request_id.encode()))
        return fields
