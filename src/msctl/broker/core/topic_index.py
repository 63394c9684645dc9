"""The bindings of a topic exchange by their patterns. Pure."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from msctl.broker.core.held import Held, each_of, with_one, without_one


class Bound(Protocol):
    @property
    def key(self) -> str:
        """The pattern."""
        ...


B = TypeVar("B", bound=Bound)


class _Node(Generic[B]):
    """A word of a pattern. A million bindings have as many, so a node has no dict that it does not need."""

    __slots__ = ("any_number", "bindings", "children")

    def __init__(self, word: str = "") -> None:
        self.any_number = word == "#"
        self.children: dict[str, _Node[B]] | None = None
        self.bindings: Held[B] = None


class TopicIndex(Generic[B]):
    """A trie of topic patterns by word: `*` matches one word, `#` any number of words."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[B] = _Node()

    def add(self, binding: B) -> None:
        node = self._root
        for word in split_words(binding.key):
            children = node.children
            if children is None:
                children = node.children = {}
            child = children.get(word)
            if child is None:
                child = children[word] = _Node(word)
            node = child
        node.bindings = with_one(node.bindings, binding)

    def remove(self, binding: B) -> None:
        """Remove a binding that was added."""
        path: list[tuple[str, dict[str, _Node[B]], _Node[B]]] = []
        node = self._root
        for word in split_words(binding.key):
            children = node.children or {}
            path.append((word, children, node))
            node = children[word]
        node.bindings = without_one(node.bindings, binding)
        for word, children, parent in reversed(path):
            if node.bindings is not None or node.children is not None:
                break
            del children[word]
            if not children:
                parent.children = None
            node = parent

    def find(self, key: str) -> list[B]:
        """The bindings with a matching pattern, each once.

        Keeps the set of trie nodes that the words so far can reach, so the work is bounded by the
        number of words times the number of nodes.
        """
        here: dict[int, _Node[B]] = {}
        _enter(self._root, here)
        for word in split_words(key):
            following: dict[int, _Node[B]] = {}
            for node in here.values():
                if node.any_number:
                    _enter(node, following)
                children = node.children
                if children is None:
                    continue
                for step in (word, "*"):
                    child = children.get(step)
                    if child is not None:
                        _enter(child, following)
            here = following
        return [binding for node in here.values() for binding in each_of(node.bindings)]


def _enter(node: _Node[B], places: dict[int, _Node[B]]) -> None:
    """Add a node, and those behind each `#` that matches no word."""
    while id(node) not in places:
        places[id(node)] = node
        beyond = None if node.children is None else node.children.get("#")
        if beyond is None:
            return
        node = beyond


def split_words(key: str) -> list[str]:
    """The words of a topic key. An empty key has none; empty words count."""
    return key.split(".") if key else []
