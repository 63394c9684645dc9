"""forward_auth by auth_request, which knows an answer's status alone.

A refusal is relayed as it is: nginx keeps it in a cache under the id of the request and answers with that.
If the authenticator did not answer, nothing is in the cache, and the group behind it has no server: 502.
"""

from __future__ import annotations

from collections.abc import Iterator

from msctl.export.proxies.nginx.fields import proxy_lines, received_prefix, replaced, request_fields
from msctl.export.proxies.nginx.syntax import OWN, header_variable, literal, seconds
from msctl.export.proxies.nginx.targets import Target
from msctl.gateway.policies.forward_auth import ABOUT_THE_BODY
from msctl.model.gateway_spec import GatewaySpec

CACHE = f"{OWN}refusals"
_NOBODY = f"{OWN}nobody"
_IGNORED = "Cache-Control Expires Set-Cookie Vary X-Accel-Expires X-Accel-Redirect X-Accel-Limit-Rate"

HEAD = (
    f"proxy_cache_path {CACHE} keys_zone={CACHE}:1m max_size=64m inactive=10s use_temp_path=off;",
    "",
    f"upstream {_NOBODY} {{",
    "    server 127.0.0.1:1 down;",
    "}",
    "",
    f"map $upstream_status ${OWN}admitted {{",
    '    "~^2" 1;',
    "    default '';",
    "}",
    "",
)


def guard_lines(target: Target) -> Iterator[str]:
    """The lines of the location that is guarded."""
    spec = target.route.forward_auth
    if spec is None or target.question is None:
        return
    yield f"auth_request /-/msctl/{target.number}-auth;"
    for index, name in enumerate(spec.response_headers):
        variable = header_variable(name).replace("$http_", "$upstream_http_")
        yield f"auth_request_set ${OWN}auth_{target.number}_{index} {variable};"
    yield "recursive_error_pages on;  # a refusal that is not there is an error of its own"
    yield f"error_page 401 403 500 = /-/msctl/{target.number}-refusal;"
    yield "error_page 413 429 502 503 504 /-/msctl/problem;"


def admitted_fields(target: Target) -> list[tuple[str, str]]:
    """Return the fields of an allowed request that are the answer's alone."""
    spec = target.route.forward_auth
    if spec is None or target.question is None:
        return []
    return [(name, f"${OWN}auth_{target.number}_{index}") for index, name in enumerate(spec.response_headers)]


def auth_lines(target: Target, gateway: GatewaySpec, tls: Iterator[str]) -> Iterator[str]:
    """The body of the location that asks."""
    spec, question = target.route.forward_auth, target.question
    if spec is None or question is None:
        return
    asked = question.group.target
    usual = request_fields(gateway, asked.host or "$http_host")
    own = [
        ("Connection", '""'),
        ("Upgrade", '""'),
        ("Content-Length", '""'),
        ("X-Forwarded-Method", "$request_method"),
        ("X-Forwarded-Uri", "$request_uri"),
        ("X-Forwarded-Prefix", f'"{received_prefix(gateway)}{literal(question.prefix)}"'),
    ]
    about_the_body = [(name.decode(), '""') for name in sorted(ABOUT_THE_BODY)]
    fields = replaced(usual, [*own, *about_the_body])
    if spec.request_headers:
        wanted = [(name, header_variable(name)) for name in spec.request_headers]
        refused = {name for name, _ in about_the_body} | {"host", "content-length", "connection", "upgrade"}
        told = {name.lower() for name, _ in fields if name.lower().startswith("x-forwarded-")}
        fields = [
            *(field for field in fields if field[1] != '""' or field in own),
            *(field for field in wanted if field[0].lower() not in refused | told),
        ]
        yield "proxy_pass_request_headers off;"
    yield "proxy_pass_request_body off;"
    yield from proxy_lines(fields)
    yield from tls
    yield f"proxy_connect_timeout {seconds(spec.timeout)};"
    yield f"proxy_read_timeout {seconds(spec.timeout)};"
    yield "proxy_buffering on;"
    yield from _cache_lines()
    yield f"proxy_no_cache ${OWN}admitted;"
    yield f'proxy_pass "{asked.scheme}://{question.group.name}{literal(question.path)}";'


def refusal_lines() -> Iterator[str]:
    """The body of the location that answers with the refusal."""
    yield "proxy_hide_header WWW-Authenticate;  # nginx has it from the answer"
    yield "proxy_hide_header X-Request-Id;"
    yield from _cache_lines()
    yield f"proxy_pass http://{_NOBODY};"


def _cache_lines() -> Iterator[str]:
    yield f"proxy_cache {CACHE};"
    yield "proxy_cache_key $request_id;"
    yield "proxy_cache_valid any 10s;"
    yield f"proxy_ignore_headers {_IGNORED};"
