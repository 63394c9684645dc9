"""Virtual hosts, users and permissions over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiohttp import web

from msctl.broker.core.patterns import PatternError
from msctl.broker.core.users import (
    Algorithm,
    PasswordHash,
    Permissions,
    TopicPermissions,
    User,
)
from msctl.broker.core.vhost import VhostInfo, VirtualHost
from msctl.broker.management.answers import (
    CREATED,
    bad_request,
    empty,
    json_answer,
    missing,
    read_object,
    require,
)
from msctl.broker.management.api import USER, Api
from msctl.broker.management.documents import NODE, queue_levels
from msctl.broker.management.json_values import name_text
from msctl.broker.management.listing import SLICES, Listing, answer_list, answer_one
from msctl.broker.management.rates import with_rates
from msctl.secret import Secret


class Vhosts:
    """The handlers of `/api/vhosts`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        one = "/api/vhosts/{vhost}"
        return [
            web.get("/api/vhosts", self._list),
            web.get(one, self._show),
            web.put(one, self._put),
            web.delete(one, self._delete),
            web.get(f"{one}/permissions", self._permissions),
            web.get(f"{one}/topic-permissions", self._topic_permissions),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        items = [(vhost, await _levels(request, vhost)) for vhost in self._api.vhosts(request)]
        return await answer_list(
            request,
            Listing(items, len(items), lambda item: item[0].name, lambda item: _vhost_document(*item)),
        )

    async def _show(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request)
        return answer_one(request, _vhost_document(vhost, await _levels(request, vhost)))

    async def _put(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        body = await read_object(request)
        name = request.match_info["vhost"]
        broker, user = self._api.broker, request[USER]
        existed = name in broker.vhosts
        info = None
        if "description" in body or "tags" in body:
            info = VhostInfo(str(body.get("description") or ""), _tags(body.get("tags")))
        try:
            broker.add_vhost(name, info)
        except ValueError as found:
            raise bad_request(str(found)) from None
        if not existed:
            broker.users.permit(user.name, name, Permissions.of())
        return empty() if existed else empty(CREATED)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        if not self._api.broker.delete_vhost(request.match_info["vhost"]):
            raise missing()
        self._api.server.changed()
        return empty()

    async def _permissions(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request).name
        return json_answer([each for each in _permissions(self._api) if each["vhost"] == vhost])

    async def _topic_permissions(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request).name
        return json_answer([each for each in _topic_permissions(self._api) if each["vhost"] == vhost])


async def _levels(request: web.Request, vhost: VirtualHost) -> dict[str, int]:
    """The messages of all queues."""
    levels = {"messages": 0, "messages_ready": 0, "messages_unacknowledged": 0}
    async for batch in request.app[SLICES].batches(list(vhost.queues.values()), queue_levels):
        for name in levels:
            levels[name] += sum(each[name] for each in batch)
    return levels


def _vhost_document(vhost: VirtualHost, levels: dict[str, int]) -> dict[str, Any]:
    info = vhost.info
    return {
        "name": name_text(vhost.name),
        "description": info.description,
        "tags": list(info.tags),
        "default_queue_type": "undefined",
        "metadata": {"description": info.description, "tags": list(info.tags)},
        "tracing": False,
        "cluster_state": {NODE: "running"},
        **with_rates(levels, {}),
    }


def _tags(value: object) -> tuple[str, ...]:
    """Tags of a user or virtual host: a list, or text with commas. Raises RefusedError."""
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise bad_request("tags must be a list or a string with commas")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


class Users:
    """The handlers of `/api/users` and of the permissions."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        user, permission = "/api/users/{user}", "/api/permissions/{vhost}/{user}"
        topic = "/api/topic-permissions/{vhost}/{user}"
        return [
            web.get("/api/users", self._list),
            web.post("/api/users/bulk-delete", self._delete_many),
            web.get(user, self._show),
            web.put(user, self._put),
            web.delete(user, self._delete),
            web.get(f"{user}/permissions", self._permissions_of),
            web.get(f"{user}/topic-permissions", self._topics_of),
            web.get("/api/permissions", self._list_permissions),
            web.get(permission, self._show_permission),
            web.put(permission, self._permit),
            web.delete(permission, self._revoke),
            web.get("/api/topic-permissions", self._list_topics),
            web.get(topic, self._show_topics),
            web.put(topic, self._permit_topic),
            web.delete(topic, self._revoke_topic),
        ]

    # --- users ---

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        items = self._api.broker.users.all()
        return await answer_list(request, Listing(items, len(items), lambda each: each.name, _user_document))

    def _named(self, request: web.Request) -> User:
        self._api.require(request)
        user = self._api.broker.users.get(request.match_info["user"])
        if user is None:
            raise missing()
        return user

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return answer_one(request, _user_document(self._named(request)))

    async def _put(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        body = await read_object(request)
        if "tags" not in body:
            raise bad_request("tags_not_present")
        name, users = request.match_info["user"], self._api.broker.users
        known = users.get(name)
        user = User(name, _password(body), _tags(body["tags"]))
        if known is not None:
            user = replace(user, limits=known.limits)
        users.put(user)
        return empty(CREATED) if known is None else empty()

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        user = self._named(request)
        if user.name == request[USER].name:
            raise bad_request("a user cannot delete itself")
        self._api.broker.delete_user(user.name)
        self._api.server.changed()
        return empty()

    async def _delete_many(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        body = await read_object(request)
        require(body, "users")
        for name in body["users"] if isinstance(body["users"], list) else ():
            if isinstance(name, str) and name != request[USER].name:
                self._api.broker.delete_user(name)
        self._api.server.changed()
        return empty()

    # --- permissions ---

    async def _permissions_of(self, request: web.Request) -> web.StreamResponse:
        name = self._named(request).name
        return json_answer([each for each in _permissions(self._api) if each["user"] == name])

    async def _topics_of(self, request: web.Request) -> web.StreamResponse:
        name = self._named(request).name
        return json_answer([each for each in _topic_permissions(self._api) if each["user"] == name])

    async def _list_permissions(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        items = _permissions(self._api)
        return await answer_list(
            request, Listing(items, len(items), lambda each: str(each["user"]), lambda each: each)
        )

    def _pair(self, request: web.Request) -> tuple[str, str]:
        """User and virtual host of the path, which exist."""
        return self._named(request).name, self._api.vhost(request).name

    def _writable_pair(self, request: web.Request) -> tuple[str, str]:
        self._api.require(request)
        user, vhost = request.match_info["user"], request.match_info["vhost"]
        if self._api.broker.users.get(user) is None or vhost not in self._api.broker.vhosts:
            raise bad_request("vhost_or_user_not_found")
        return user, vhost

    async def _show_permission(self, request: web.Request) -> web.StreamResponse:
        pair = self._pair(request)
        for found in _permissions(self._api):
            if (found["user"], found["vhost"]) == pair:
                return json_answer(found)
        raise missing()

    async def _permit(self, request: web.Request) -> web.StreamResponse:
        pair = self._writable_pair(request)
        body = await read_object(request)
        require(body, "configure", "write", "read")
        existed = self._api.broker.users.permissions_of(*pair) is not None
        try:
            permissions = Permissions.of(*(_text(body, name) for name in ("configure", "write", "read")))
        except PatternError as found:
            raise bad_request(str(found)) from None
        self._api.broker.users.permit(*pair, permissions)
        return empty() if existed else empty(CREATED)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        if not self._api.broker.users.revoke(*self._pair(request)):
            raise missing()
        return empty()

    async def _list_topics(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        return json_answer(_topic_permissions(self._api))

    async def _show_topics(self, request: web.Request) -> web.StreamResponse:
        pair = self._pair(request)
        found = [each for each in _topic_permissions(self._api) if (each["user"], each["vhost"]) == pair]
        if not found:
            raise missing()
        return json_answer(found)

    async def _permit_topic(self, request: web.Request) -> web.StreamResponse:
        pair = self._writable_pair(request)
        body = await read_object(request)
        require(body, "exchange", "write", "read")
        exchange = _text(body, "exchange")
        existed = self._api.broker.users.topic_permissions_of(*pair, exchange) is not None
        try:
            permissions = TopicPermissions(_text(body, "write"), _text(body, "read"))
        except PatternError as found:
            raise bad_request(str(found)) from None
        self._api.broker.users.permit_topic(*pair, exchange, permissions)
        return empty() if existed else empty(CREATED)

    async def _revoke_topic(self, request: web.Request) -> web.StreamResponse:
        if not self._api.broker.users.revoke_topic(*self._pair(request)):
            raise missing()
        return empty()


def _user_document(user: User) -> dict[str, Any]:
    password = user.password
    return {
        "name": name_text(user.name),
        "password_hash": "" if password is None else password.encoded,
        "hashing_algorithm": (Algorithm.SHA256 if password is None else password.algorithm).value,
        "tags": list(user.tags),
        "limits": dict(user.limits),
    }


def _password(body: dict[str, Any]) -> PasswordHash | None:
    """The password or its hash; None for an empty hash. Raises RefusedError."""
    if "password" in body:
        password = _text(body, "password")
        if not password:
            raise bad_request("the password is empty; to forbid logins, set password_hash to an empty string")
        return PasswordHash.make(Secret(password))
    encoded = _text(body, "password_hash") if "password_hash" in body else ""
    if not encoded:
        return None
    try:
        algorithm = Algorithm(body.get("hashing_algorithm") or Algorithm.SHA256)
        return PasswordHash.decode(encoded, algorithm)
    except ValueError as found:
        raise bad_request(f"password_hash: {found}") from None


def _text(body: dict[str, Any], name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise bad_request(f"{{not_string,{name}}}")
    return value


def _permissions(api: Api) -> list[dict[str, str]]:
    return [
        {
            "user": name_text(user),
            "vhost": name_text(vhost),
            "configure": found.configure.text,
            "write": found.write.text,
            "read": found.read.text,
        }
        for (user, vhost), found in api.broker.users.permissions().items()
    ]


def _topic_permissions(api: Api) -> list[dict[str, str]]:
    return [
        {
            "user": name_text(user),
            "vhost": name_text(vhost),
            "exchange": name_text(exchange),
            "write": found.write,
            "read": found.read,
        }
        for (user, vhost, exchange), found in api.broker.users.topic_permissions().items()
    ]
