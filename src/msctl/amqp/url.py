"""The URL of a broker, for users of this package; `model.broker_url` parses it."""

from __future__ import annotations

from msctl.model.broker_url import BrokerUrl, parse_url, redact

__all__ = ["BrokerUrl", "parse_url", "redact"]
