"""Chooses which spans of a long trace to keep: those that explain it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msctl.telemetry.tracing.span import SpanGroup


def most_telling(groups: Sequence[SpanGroup], limit: int) -> list[SpanGroup]:
    """Return up to `limit` groups in their order: roots, errors, the first of each name, the slowest."""
    seen: set[tuple[str, str]] = set()
    ranked: list[tuple[int, float, int]] = []
    for at, group in enumerate(groups):
        rank, duration = 0, 0.0
        for span in group.spans():
            name = span.service, span.title
            if span.parent_id is None:
                rank = 3
            elif span.error:
                rank = max(rank, 2)
            elif name not in seen:
                rank = max(rank, 1)
            seen.add(name)
            duration = max(duration, span.duration_s)
        ranked.append((rank, duration, -at))
    ranked.sort(reverse=True)
    return [groups[at] for at in sorted(-negative for _, _, negative in ranked[:limit])]
