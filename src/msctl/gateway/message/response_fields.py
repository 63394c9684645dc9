"""What the gateway does to the fields of a response on its way to the client.

Pure. The same for a hosted and an HTTP upstream, and for the gateway's own answers.
"""

from __future__ import annotations

from typing import NamedTuple

from msctl.gateway.message.headers import Field, Fields, edit, end_to_end
from msctl.model.project import HeaderEdit

_REQUEST_ID = frozenset({b"x-request-id"})


class Edits(NamedTuple):
    """The changes to one response: what the user configured, then fields (lower case) that only the
    gateway may say, then its own fields."""

    request_id: str
    change: HeaderEdit | None = None
    owned: frozenset[bytes] = _REQUEST_ID
    extra: tuple[Field, ...] = ()

    def apply(self, fields: Fields) -> Fields:
        """The fields to send for the upstream's `fields`, without framing."""
        owned = self.owned
        out = [field for field in end_to_end(fields) if field[0].lower() not in owned]
        if self.change is not None:
            out = edit(out, self.change)
        return self.sign(out)

    def sign(self, fields: Fields) -> Fields:
        """Add the gateway's own fields to an answer that has none of them."""
        fields += self.extra
        fields.append((b"X-Request-Id", self.request_id.encode()))
        return fields
