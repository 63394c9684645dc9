"""The route paths most similar to a path that no route takes, at a cost that the number of routes does not
change. Pure.

An index from trigrams to the paths that contain them is built at the first question. A question looks at
the rarest trigrams of the path first and stops after BUDGET entries, so it compares at most BUDGET paths
whatever the number of routes; only those are ranked, by the trigrams that both have (Dice). Trigrams that
many paths share ("/ap") tell little, so each keeps MAX_POSTINGS paths only. Answers are kept by the shape
of the path, in which numbers are all equal, since a client that guesses paths asks for many like it.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_PATH = 48
"""The characters of a path that are compared."""

BUDGET = 24
"""The paths that one question compares at most, with repetition."""

MAX_PATHS = 2000
"""The paths that the index holds; more are not suggested."""

MAX_POSTINGS = 16
MAX_CACHED = 256


class NearestPaths:
    """Finds the paths nearest to another."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple(dict.fromkeys(paths))[:MAX_PATHS]
        self._grams: list[frozenset[str]] = []
        self._index: dict[str, list[int]] | None = None
        self._cache: dict[tuple[str, int], tuple[str, ...]] = {}

    def find(self, path: str, count: int) -> tuple[str, ...]:
        """Return the `count` paths nearest to `path`, best first; the first ones where nothing is similar."""
        shape = _shape(path)
        found = self._cache.get((shape, count))
        if found is None:
            found = self._find(shape, count)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[shape, count] = found
        return found

    def _find(self, shape: str, count: int) -> tuple[str, ...]:
        index = self._index
        if index is None:
            index = self._index = self._build()
        grams = _grams(shape)
        budget, candidates = BUDGET, set(range(min(count, len(self._paths))))
        for _, gram in sorted((len(index[gram]), gram) for gram in grams if gram in index):
            candidates.update(index[gram][:budget])
            budget -= len(index[gram])
            if budget <= 0:
                break
        ranked = sorted(candidates, key=lambda number: (-_similarity(grams, self._grams[number]), number))
        return tuple(self._paths[number] for number in ranked[:count])

    def _build(self) -> dict[str, list[int]]:
        index: dict[str, list[int]] = {}
        for number, path in enumerate(self._paths):
            grams = _grams(_shape(path))
            self._grams.append(grams)
            for gram in grams:
                postings = index.setdefault(gram, [])
                if len(postings) < MAX_POSTINGS:
                    postings.append(number)
        return index


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    # The root alone has none.
    return 2 * len(one & other) / ((len(one) + len(other)) or 1)


def _grams(shape: str) -> frozenset[str]:
    """Return all bigrams and trigrams: two swapped letters leave a short word no trigram in common."""
    text = f"{shape}/"
    return frozenset(text[i : i + size] for size in (2, 3) for i in range(len(text) - size + 1))


def _shape(path: str) -> str:
    """Return the path as it is compared: short, in lower case, without what tells two numbers apart."""
    elements = path[:MAX_PATH].lower().rstrip("/").split("/")
    return "/".join("0" if element.isdigit() else element for element in elements)
