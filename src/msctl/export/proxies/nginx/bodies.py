"""What the locations of one route say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.export.proxies.nginx import forward_auth, static_files
from msctl.export.proxies.nginx.cors import preflight_lines
from msctl.export.proxies.nginx.fields import edited, proxy_lines, replaced, request_fields, response_lines
from msctl.export.proxies.nginx.groups import Group, Groups
from msctl.export.proxies.nginx.maps import has_limit, rewrites_path, sends_prefix
from msctl.export.proxies.nginx.syntax import LONGEST_SILENCE, OWN, literal, quoted, seconds, value
from msctl.export.proxies.nginx.targets import Target
from msctl.export.proxies.nginx.traffic import group_variable
from msctl.export.proxies.upstreams import ProxyTarget
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.upstream_policy import first_set

SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_COPY_SECONDS = 30
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Bodies:
    """The locations of routes, for one server block."""

    def __init__(self, gateway: GatewaySpec, groups: Groups) -> None:
        self._gateway = gateway
        self._groups = groups

    def entry(self, target: Target, *, rewritten: bool) -> Iterator[str]:
        """The body of the location that a request of the route comes to."""
        if target.variants:
            yield f"rewrite ^ /-/msctl/{target.number}-${OWN}variant_{target.number} last;"
        else:
            yield from self._body(target, rewritten=rewritten)

    def more(self, target: Target) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the further locations that the entry leads to, with their bodies."""
        number, cors = target.number, target.route.cors
        if target.group is not None:
            body = self._body(target, rewritten=True, is_stream=True)
            yield f"= /-/msctl/{number}-stream", ["internal;", *body]
        if target.is_gateway:
            return
        if target.variants:
            yield f"= /-/msctl/{number}-plain", ["internal;", *self._body(target, rewritten=True)]
        if cors is not None:
            for name, allowed in (("preflight", True), ("foreign", False)):
                yield f"= /-/msctl/{number}-{name}", list(preflight_lines(cors, number, allowed=allowed))
        if target.mirror is not None:
            body = self._body(target, rewritten=True, parts_streams=False)
            copied = [f"mirror /-/msctl/{number}-copy;", *body]
            yield f"= /-/msctl/{number}-copied", ["internal;", *copied]
            yield f"= /-/msctl/{number}-copy", ["internal;", *self._copy(target, target.mirror)]
        if target.question is not None:
            asked = target.question.group.target
            lines = forward_auth.auth_lines(target, self._gateway, _upstream_tls(asked))
            yield f"= /-/msctl/{number}-auth", ["internal;", *lines]
            refusal = [*forward_auth.refusal_lines(), *self._response(target)]
            yield f"= /-/msctl/{number}-refusal", ["internal;", *refusal]
        if target.files is not None:
            for name, is_page in (("file", False), ("page", True)):
                write = static_files.page_location if is_page else static_files.file_location
                fields = response_lines(target, None, static_files.caching(target.files, is_page=is_page))
                yield f"@{OWN}{name}_{number}", [*fields, *write(target, target.files)]

    def _body(
        self, target: Target, *, rewritten: bool, is_stream: bool = False, parts_streams: bool = True
    ) -> Iterator[str]:
        if target.route.redirect is not None and target.group is None:
            yield from self._response(target)
            yield f"return {_redirect(target)};"
            return
        if not target.is_gateway:
            yield from self._guards(target)
            yield from self._response(target)
        if target.files is not None:
            yield f"try_files {static_files.NONE} @{OWN}file_{target.number};"
        elif target.group is not None:
            if parts_streams and not is_stream:
                yield f"if (${OWN}is_stream) {{"
                yield f"    rewrite ^ /-/msctl/{target.number}-stream last;"
                yield "}"
            yield from self._limits(target, is_stream=is_stream)
            yield from self._proxy(target, target.group, rewritten=rewritten)

    def _guards(self, target: Target) -> Iterator[str]:
        route = target.route
        if route.basic_auth is not None and route.basic_auth.file is not None:
            yield f"auth_basic {value(route.basic_auth.realm)};"
            yield f"auth_basic_user_file {value(route.basic_auth.file)};"
        yield from forward_auth.guard_lines(target)
        if route.rate_limit is not None and has_limit(target):
            wait = max(1, -(-route.rate_limit.period // route.rate_limit.requests))
            burst = (route.rate_limit.burst or route.rate_limit.requests) - 1
            extra = f" burst={burst} nodelay" if burst > 0 else ""
            yield f"set ${OWN}retry_after {wait:.0f};"
            yield f"limit_req zone={OWN}limit_{target.number}{extra};"

    def _response(self, target: Target) -> Iterator[str]:
        sticky = target.sticky
        tie = self._groups.tie(sticky) if sticky is not None and sticky.cookie is not None else None
        return response_lines(target, tie)

    def _limits(self, target: Target, *, is_stream: bool) -> Iterator[str]:
        """The lines that differ from those of the server block."""
        own, service, gateway = target.route.policy, target.policy, self._gateway
        connect = first_set(own.connect_timeout, service.connect_timeout, gateway.connect_timeout)
        of_gateway = gateway.idle_timeout or LONGEST_SILENCE
        idle = first_set(own.idle_timeout, service.idle_timeout, gateway.idle_timeout) or LONGEST_SILENCE
        if is_stream:
            silence = first_set(
                own.stream_idle_timeout, service.stream_idle_timeout, gateway.stream_idle_timeout
            )
            idle = silence or max(idle, LONGEST_SILENCE)
        if target.is_gateway:
            idle = max(idle, of_gateway)  # it ends the request itself
        max_body = first_set(own.max_body, service.max_body, gateway.max_body)
        retries = first_set(own.retries, service.retries, gateway.retries)
        if connect != gateway.connect_timeout and not target.is_gateway:
            yield f"proxy_connect_timeout {seconds(connect)};"
        if idle != of_gateway:
            yield f"proxy_read_timeout {seconds(idle)};"
            yield f"proxy_send_timeout {seconds(idle)};"
        if max_body != gateway.max_body:
            yield f"client_max_body_size {max_body};"
        if retries != gateway.retries and not target.is_gateway:
            yield f"proxy_next_upstream_tries {retries + 1};"

    def _proxy(self, target: Target, group: Group, *, rewritten: bool) -> Iterator[str]:
        yield from self._fields(target, group.target)
        yield from _upstream_tls(group.target)
        name = group.name if target.canary is None else group_variable(target)
        if rewrites_path(target):
            path = f"${OWN}path_{target.number}"
        else:  # without a path, nginx passes the path as it was sent
            path = "$request_uri" if rewritten or target.canary is not None else ""
        yield f"proxy_pass {group.target.scheme}://{name}{path};"

    def _copy(self, target: Target, mirror: Group) -> Iterator[str]:
        yield f"proxy_read_timeout {_COPY_SECONDS}s;"
        yield from self._fields(target, mirror.target)
        yield from _upstream_tls(mirror.target)
        path = f"${OWN}path_{target.number}" if rewrites_path(target) else "$request_uri"
        yield f"proxy_pass {mirror.target.scheme}://{mirror.name}{path};"

    def _fields(self, target: Target, found: ProxyTarget) -> Iterator[str]:
        """The fields of the request, if they differ from those of the server block."""
        usual = request_fields(self._gateway)
        fields = request_fields(self._gateway, found.host or "$http_host")
        if not target.is_gateway:
            if target.route.request_headers is not None:
                fields = edited(fields, target.route.request_headers)
            fields = replaced(fields, forward_auth.admitted_fields(target))
            if sends_prefix(target):
                yield f"set ${OWN}prefix ${OWN}prefix_{target.number};"
        if fields != usual:
            yield from proxy_lines(fields)


def _upstream_tls(found: ProxyTarget) -> Iterator[str]:
    tls = found.tls
    if tls is None:
        return
    yield "proxy_ssl_server_name on;"
    yield f"proxy_ssl_name {found.server_name};"
    if tls.verify:
        yield "proxy_ssl_verify on;"
        yield "proxy_ssl_verify_depth 4;"
        yield f"proxy_ssl_trusted_certificate {quoted(str(tls.ca or SYSTEM_AUTHORITIES))};"
    if tls.cert is not None and tls.key is not None:
        yield f"proxy_ssl_certificate {quoted(str(tls.cert))};"
        yield f"proxy_ssl_certificate_key {quoted(str(tls.key))};"


def _redirect(target: Target) -> str:
    spec = target.route.redirect
    if spec is None:
        raise ValueError("not a redirect")
    if spec.path is not None:
        path = f"{literal(spec.path)}$is_args$args"
    elif spec.prefix is not None:
        path = f"${OWN}path_{target.number}"
    else:
        path = "$request_uri"
    port = None if str(spec.port) == _DEFAULT_PORTS.get(spec.scheme or "http") else spec.port
    if spec.port is None and spec.scheme is None and spec.host is None:
        authority = "$http_host"
    else:
        authority = (spec.host or "$host") + (f":{port}" if port else "")
    return f'{spec.status} "{spec.scheme or "$scheme"}://{authority}{path}"'
