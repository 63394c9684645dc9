"""The route table: which route matches a request. Pure.

Precedence as in Kubernetes' Gateway API: the more specific host, an exact path, the longer prefix (in
whole elements), a route with methods, more header matches, the route declared first. A literal element
precedes a `{variable}`.

Routes are kept in a trie of path elements for each host. `_walk` visits literal children before
variables and deeper nodes before shallower ones, which is the order of precedence within a host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msctl.gateway.message.headers import Field, text
from msctl.gateway.policies.cors import preflight_for
from msctl.gateway.routing.nearest import NearestPaths
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import is_variable, route_elements


@dataclass(frozen=True, slots=True)
class Rule:
    """A route, prepared for matching."""

    spec: RouteSpec
    order: int
    elements: tuple[str, ...]
    methods: frozenset[str]
    headers: tuple[tuple[bytes, str], ...]
    hosts: tuple[str, ...]

    def matches(self, method: str, fields: Sequence[Field]) -> bool:
        if self.methods and method not in self.methods:
            return False
        return not self.headers or all(
            any(key.lower() == name and text(given) == wanted for key, given in fields)
            for name, wanted in self.headers
        )


class Match(NamedTuple):
    """A route and the values of its path variables."""

    rule: Rule
    variables: Mapping[str, str]


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods listed in Allow for a route that names none; such a route matches any method."""


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    exact: list[Rule] = field(default_factory=list)
    prefix: list[Rule] = field(default_factory=list)


class RouteTable:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[RouteSpec]) -> None:
        self.rules = tuple(_rule(spec, order) for order, spec in enumerate(routes))
        self._nearest = NearestPaths(rule.spec.path for rule in self.rules)
        self._any = _Node()
        self._hosts: dict[str, _Node] = {}
        self._suffixes: list[tuple[str, _Node]] = []
        for rule in sorted(self.rules, key=_precedence):
            for root in self._roots(rule):
                _insert(root, rule)
        self._suffixes.sort(key=lambda item: -len(item[0]))

    def match(
        self, method: str, host: str, elements: tuple[str, ...], fields: Sequence[Field]
    ) -> Match | None:
        """Return the route for a request to `elements` at `host` (lower case, without port)."""
        rule = self.find(method, host, elements, fields)
        return None if rule is None else Match(rule, _variables(rule, elements))

    def find(self, method: str, host: str, elements: Sequence[str], fields: Sequence[Field]) -> Rule | None:
        """Return the rule of such a request."""
        rule = None
        if self._hosts and (node := self._hosts.get(host)) is not None:
            rule = _find(node, elements, 0, method, fields)
        if rule is None and self._suffixes:
            for suffix, node in self._suffixes:
                if host.endswith(suffix) and len(host) > len(suffix):
                    rule = _find(node, elements, 0, method, fields)
                    if rule is not None:
                        break
        if rule is None:
            rule = _find(self._any, elements, 0, method, fields)
        if method == "OPTIONS" and (rule is None or not rule.methods):
            return self._of_preflight(host, elements, fields) or rule
        return rule

    def _of_preflight(self, host: str, elements: Sequence[str], fields: Sequence[Field]) -> Rule | None:
        """Return the rule of the request that a preflight asks for, if it has CORS to answer with."""
        asked = preflight_for("OPTIONS", fields)
        if asked is None or asked == "OPTIONS":
            return None
        rule = self.find(asked, host, elements, fields)
        return None if rule is None or rule.spec.cors is None else rule

    def methods(self, host: str, elements: tuple[str, ...], fields: Sequence[Field]) -> tuple[str, ...]:
        """Return the methods that routes allow for this host, path and fields."""
        found: dict[str, None] = {}
        for rules in self._candidates(host, elements):
            for rule in rules:
                for method in _methods(rule):
                    if rule.matches(method, fields):
                        found[method] = None
        return tuple(found)

    def all_methods(self) -> tuple[str, ...]:
        """Return the methods of all routes, and OPTIONS."""
        return tuple(dict.fromkeys([*(name for rule in self.rules for name in _methods(rule)), "OPTIONS"]))

    def nearest(self, path: str, count: int = 3) -> tuple[str, ...]:
        """Return the `count` route paths most similar to `path`, best first."""
        return self._nearest.find(path, count)

    def candidates(self, host: str, elements: tuple[str, ...]) -> Iterator[Rule]:
        """Yield the rules whose host and path match, most specific first."""
        for rules in self._candidates(host, elements):
            yield from rules

    def _roots(self, rule: Rule) -> Iterator[_Node]:
        if not rule.hosts:
            yield self._any
        for host in rule.hosts:
            if host.startswith("*."):
                suffix = host[1:]
                node = next((node for known, node in self._suffixes if known == suffix), None)
                if node is None:
                    node = _Node()
                    self._suffixes.append((suffix, node))
                yield node
            else:
                yield self._hosts.setdefault(host, _Node())

    def _candidates(self, host: str, elements: tuple[str, ...]) -> Iterator[list[Rule]]:
        if self._hosts and (node := self._hosts.get(host)) is not None:
            yield from _walk(node, elements, 0)
        for suffix, node in self._suffixes:
            if host.endswith(suffix) and len(host) > len(suffix):
                yield from _walk(node, elements, 0)
        yield from _walk(self._any, elements, 0)


def _walk(node: _Node, elements: tuple[str, ...], depth: int) -> Iterator[list[Rule]]:
    if depth == len(elements):
        if node.exact:
            yield node.exact
    else:
        element = elements[depth]
        if (child := node.children.get(element)) is not None:
            yield from _walk(child, elements, depth + 1)
        if node.variable is not None and element:
            yield from _walk(node.variable, elements, depth + 1)
    if node.prefix:
        yield node.prefix


def _find(
    node: _Node, elements: Sequence[str], depth: int, method: str, fields: Sequence[Field]
) -> Rule | None:
    """Return the first rule of `_walk` that matches; without its generators, for each request."""
    if depth == len(elements):
        for rule in node.exact:
            if rule.matches(method, fields):
                return rule
    else:
        element = elements[depth]
        child = node.children.get(element)
        if child is not None and (found := _find(child, elements, depth + 1, method, fields)) is not None:
            return found
        child = node.variable
        if child is not None and element:
            found = _find(child, elements, depth + 1, method, fields)
            if found is not None:
                return found
    for rule in node.prefix:
        if rule.matches(method, fields):
            return rule
    return None


def _insert(root: _Node, rule: Rule) -> None:
    node = root
    for element in rule.elements:
        if is_variable(element):
            if node.variable is None:
                node.variable = _Node()
            node = node.variable
        else:
            node = node.children.setdefault(element, _Node())
    (node.exact if rule.spec.exact else node.prefix).append(rule)


def _rule(spec: RouteSpec, order: int) -> Rule:
    return Rule(
        spec,
        order,
        route_elements(spec),
        frozenset(method.upper() for method in spec.methods),
        tuple((name.lower().encode(), value) for name, value in spec.headers.items()),
        tuple(host.lower() for host in spec.hosts),
    )


NO_ROUTE = Match(_rule(RouteSpec("", ""), -1), {})
"""The match of a request about the server as a whole, which is no route of the table."""


def _methods(rule: Rule) -> Sequence[str]:
    return sorted(rule.methods) or METHODS


def _precedence(rule: Rule) -> tuple[bool, int, int]:
    return (not rule.methods, -len(rule.headers), rule.order)


def _variables(rule: Rule, elements: tuple[str, ...]) -> Mapping[str, str]:
    if "{" not in rule.spec.path:
        return {}
    pairs = zip(rule.elements, elements, strict=False)
    return {name[1:-1]: given for name, given in pairs if is_variable(name)}


def upstream_path(rule: Rule, path: str) -> str:
    """Return the path to forward: as sent, or with the matched prefix removed or replaced."""
    spec = rule.spec
    if spec.rewrite is not None:
        return spec.rewrite if spec.exact else replace_prefix(rule, path, spec.rewrite)
    return replace_prefix(rule, path, "/") if spec.strip_prefix else path


def matched_prefix(rule: Rule, path: str) -> str:
    """Return the part of `path` that the route matched, with its bytes as sent: `/t/7` for `/t/{id}`."""
    return "/" + "/".join(path[1:].split("/")[: len(rule.elements)])


def replace_prefix(rule: Rule, path: str, prefix: str) -> str:
    """Return `path` with the matched prefix replaced; the rest keeps its bytes."""
    rest = path[1:].split("/")[len(rule.elements) :]
    if not rest:
        return prefix or "/"
    return f"{prefix.rstrip('/')}/{'/'.join(rest)}"
