"""Policies, operator policies and parameters over HTTP."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from msctl.broker.core.patterns import PatternError
from msctl.broker.core.policies import Policy, PolicyError, make_policy
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.management.answers import (
    CREATED,
    bad_request,
    empty,
    json_answer,
    missing,
    read_object,
    require,
)
from msctl.broker.management.api import POLICYMAKER, Api
from msctl.broker.management.json_values import name_text
from msctl.broker.management.listing import Listing, answer_list


class Policies:
    """The handlers of `/api/policies` and `/api/operator-policies`; there are no parameters."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        found = []
        for kind in ("policies", "operator-policies"):
            one = f"/api/{{kind:{kind}}}/{{vhost}}/{{name}}"
            found += [
                web.get(f"/api/{{kind:{kind}}}", self._list),
                web.get(f"/api/{{kind:{kind}}}/{{vhost}}", self._list),
                web.get(one, self._show),
                web.put(one, self._put),
                web.delete(one, self._delete),
            ]
        for path in ("parameters", "parameters/{component}", "global-parameters", "vhost-limits"):
            found.append(web.get(f"/api/{path}", self._none))
        return found

    async def _none(self, _request: web.Request) -> web.StreamResponse:
        return json_answer([])

    async def _list(self, request: web.Request) -> web.StreamResponse:
        operator = _is_operator(request)
        items = [
            (vhost, policy)
            for vhost in self._api.chosen_vhosts(request)
            for policy in vhost.policies.table(operator=operator).values()
        ]
        return await answer_list(request, Listing(items, len(items), lambda item: item[1].name, _document))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request)
        policy = vhost.policies.table(operator=_is_operator(request)).get(request.match_info["name"])
        if policy is None:
            raise missing()
        return json_answer(_document((vhost, policy)))

    def _writable(self, request: web.Request) -> VirtualHost:
        self._api.require(request, *(() if _is_operator(request) else (POLICYMAKER,)))
        return self._api.vhost(request)

    async def _put(self, request: web.Request) -> web.StreamResponse:
        vhost = self._writable(request)
        body = await read_object(request)
        require(body, "pattern", "definition")
        name, operator = request.match_info["name"], _is_operator(request)
        try:
            policy = make_policy(
                name,
                str(body["pattern"]),
                body["definition"],
                apply_to=str(body.get("apply-to") or "all"),
                priority=body.get("priority") or 0,
                operator=operator,
            )
        except (PolicyError, PatternError) as found:
            raise bad_request(f"Validation failed\n\n{found}") from None
        existed = name in vhost.policies.table(operator=operator)
        vhost.set_policy(policy, operator=operator)
        self._api.server.changed()
        return empty() if existed else empty(CREATED)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        vhost = self._writable(request)
        if not vhost.clear_policy(request.match_info["name"], operator=_is_operator(request)):
            raise missing()
        self._api.server.changed()
        return empty()


def _is_operator(request: web.Request) -> bool:
    return request.match_info["kind"] == "operator-policies"


def _document(item: tuple[VirtualHost, Policy]) -> dict[str, Any]:
    vhost, policy = item
    return {
        "vhost": name_text(vhost.name),
        "name": name_text(policy.name),
        "pattern": policy.pattern.text,
        "apply-to": policy.apply_to.value,
        "definition": dict(policy.definition),
        "priority": policy.priority,
    }
