"""The network of a simulation: who is where, how long bytes take, and what is cut.

Parties are named; each has an address of its own. A connection belongs to two parties, and its bytes arrive
in order after a latency that is drawn for each piece. A partition holds them back: they arrive when it ends.
"""

from __future__ import annotations

from random import Random

LATENCY_S = (0.0002, 0.004)
"""The usual time a piece takes, from … to."""
PIECES_UNTIL_CUT = 8
CLIENT = "client"


class Network:
    """Addresses, latencies and cuts."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._addresses: dict[str, str] = {}
        self._parties: dict[str, str] = {}
        self._held_until: dict[frozenset[str], float] = {}
        self._slower: dict[frozenset[str], tuple[float, float]] = {}
        self._cuts: dict[frozenset[str], int] = {}
        self.confirms: dict[str, float] = {}
        """Until when the next confirm for a party is lost, with the connection."""

    def address(self, party: str) -> str:
        """The IP address of a party; the same in every run."""
        found = self._addresses.get(party)
        if found is None:
            number = len(self._addresses) + 1
            found = self._addresses[party] = f"127.77.{number // 250}.{number % 250 + 1}"
            self._parties[found] = party
        return found

    def party(self, host: str) -> str | None:
        """Who has this address, or this name."""
        if host in self._addresses:
            return host
        return self._parties.get(host)

    def arrival(self, one: str, other: str, now: float) -> float:
        """When a piece that is sent now arrives."""
        pair = frozenset((one, other))
        at = now + self._random.uniform(*LATENCY_S)
        slower = self._slower.get(pair)
        if slower is not None and now < slower[0]:
            at += self._random.uniform(0, slower[1])
        held = self._held_until.get(pair, 0.0)
        return held + self._random.uniform(*LATENCY_S) if at < held else at

    def partition(self, pair: tuple[str, str], until: float) -> None:
        """Let nothing pass between them until then."""
        both = frozenset(pair)
        self._held_until[both] = max(until, self._held_until.get(both, 0.0))

    def slow_down(self, pair: tuple[str, str], until: float, extra: float) -> None:
        """Let every piece between them take up to `extra` seconds longer until then."""
        self._slower[frozenset(pair)] = until, extra

    def cut_soon(self, pair: tuple[str, str]) -> None:
        """Cut the connection between them on which one of the next few pieces is sent."""
        self._cuts[frozenset(pair)] = self._random.randint(1, PIECES_UNTIL_CUT)

    def lose_confirm(self, party: str, until: float) -> None:
        """Cut the connection on which the broker's next confirm for a party leaves, until then."""
        self.confirms[party] = until

    def loses_confirm(self, party: str, now: float) -> bool:
        """Whether the confirm that leaves for a party now is lost."""
        return now < self.confirms.pop(party, 0.0)

    def cuts(self, one: str, other: str) -> bool:
        """Whether the connection on which a piece is sent now is cut by it; the piece does not arrive."""
        pair = frozenset((one, other))
        left = self._cuts.get(pair)
        if left is None:
            return False
        if left > 1:
            self._cuts[pair] = left - 1
            return False
        del self._cuts[pair]
        return True
