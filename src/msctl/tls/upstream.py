"""The TLS context with which the gateway and the probes speak to an https upstream."""

from __future__ import annotations

import ssl
from pathlib import Path

from msctl.errors import ConfigError
from msctl.model.route_policies import UpstreamTlsSpec


def client_context(spec: UpstreamTlsSpec | None, table: str = "tls") -> ssl.SSLContext:
    """Read the authorities and the certificate; raises ConfigError, naming the key under `table`.

    Slow (it may read every authority of the system): call it outside of the loop.
    """
    spec = spec or UpstreamTlsSpec()
    context = _trusting(spec.ca, table)
    context.set_alpn_protocols(["http/1.1"])
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if spec.cert is not None and spec.key is not None:
        try:
            context.load_cert_chain(spec.cert, spec.key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"{table}.cert: cannot use {spec.cert} with {spec.key}: {_reason(error)}"
            ) from None
    return context


def _trusting(ca: Path | None, table: str) -> ssl.SSLContext:
    if ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{table}.ca: cannot use {ca}: {_reason(error)}") from None


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)
