"""The value of the Date field (RFC 9110 §6.6.1), formatted once a second."""

from __future__ import annotations

import time
from email.utils import formatdate


class HttpDate:
    """Returns the present time as a field value."""

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._value = second, formatdate(second, usegmt=True).encode()
        return self._value


http_date = HttpDate()
