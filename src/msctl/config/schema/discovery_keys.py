"""The keys of `[discovery]`."""

from __future__ import annotations

from msctl.config.schema.network_values import HOST, REGISTRY_URL
from msctl.config.schema.program_values import FILE
from msctl.config.schema.quantities import DURATION
from msctl.config.schema.table import Key, OnReload, Table, on_reload
from msctl.config.schema.values import NAME, SECRET
from msctl.model.project import DiscoverySpec

DISCOVERY = Table(
    "discovery",
    DiscoverySpec,
    on_reload(
        OnReload.REFUSE,
        Key(
            "url",
            REGISTRY_URL,
            "The registry in which stacks on several machines find each other's services: etcd or Consul. "
            "`etcds://` and `consuls://` speak TLS; `etcd://user:password@host` logs in; a cluster's "
            "addresses are separated by commas.",
        ),
        Key("token", SECRET, "Consul's ACL token; put it into `.env`."),
        Key("ca", FILE, "The authority of the registry's certificate, if it is private (PEM)."),
        Key("cert", FILE, "The certificate that is shown to the registry (PEM)."),
        Key("key", FILE, "That certificate's private key (PEM, not encrypted)."),
        Key(
            "namespace",
            NAME,
            "Only stacks of one namespace find each other's services.",
            "the project's name",
        ),
        Key(
            "advertise",
            HOST,
            "The address at which other machines reach this one.",
            "the address from which the registry is reached",
        ),
        Key("ttl", DURATION, "How long after a stack was last heard of its instances are gone."),
    ),
)
