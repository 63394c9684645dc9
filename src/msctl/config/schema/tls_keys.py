"""The keys of `[gateway.tls]` and `[broker.tls]`: a certificate and its key, set both or neither."""

from __future__ import annotations

from msctl.config.schema.network_values import PORT
from msctl.config.schema.program_values import FILE
from msctl.config.schema.table import Key, OnReload, Table, on_reload, table_type
from msctl.config.schema.value_type import choice
from msctl.config.schema.values import BOOLEAN
from msctl.model.tls_spec import BrokerTlsSpec, TlsSpec, TlsVersion


def _pair(spec: TlsSpec) -> str | None:
    if (spec.cert is None) != (spec.key is None):
        return "set both cert and key, or neither"
    return None


TLS = Table(
    "gateway.tls",
    TlsSpec,
    on_reload(
        OnReload.LIVE,
        Key(
            "cert", FILE, "The certificate with which the gateway serves HTTPS (PEM, followed by its chain)."
        ),
        Key("key", FILE, "The certificate's private key (PEM, not encrypted)."),
        Key(
            "dev",
            BOOLEAN,
            "HTTPS with a certificate for localhost, signed by a local authority, instead of `cert` and "
            "`key`. `msctl up --dev-tls` sets it.",
        ),
        Key("min_version", choice(TlsVersion), "The oldest TLS version accepted."),
    ),
)

HTTPS = table_type(TLS, _pair)._replace(show=TLS.show)

BROKER_TLS = Table(
    "broker.tls",
    BrokerTlsSpec,
    on_reload(
        OnReload.REFUSE,
        Key("cert", FILE, "The certificate for AMQPS of an embedded broker (PEM, followed by its chain)."),
        Key("key", FILE, "The certificate's private key (PEM, not encrypted)."),
        Key(
            "dev",
            BOOLEAN,
            "AMQPS with a certificate for localhost, signed by the local authority of `--dev-tls`, instead "
            "of `cert` and `key`.",
        ),
        Key("min_version", choice(TlsVersion), "The oldest TLS version accepted."),
        Key("port", PORT, "The port of AMQPS; 0 chooses a free one."),
        Key("only", BOOLEAN, "Whether the embedded broker has no port without TLS."),
        Key(
            "ca",
            FILE,
            "The authority of `cert`, if it is private (PEM). With `only`, the stack's clients need it.",
        ),
    ),
)

AMQPS = table_type(BROKER_TLS, _pair)._replace(show=BROKER_TLS.show)
