"""`make bench`: run all benchmarks, or those whose module is named, and print one table."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import tests.bench
from tests.bench.result import Result


def main(wanted: list[str]) -> int:
    names = [m.name for m in pkgutil.iter_modules(tests.bench.__path__) if m.name.startswith("bench_")]
    chosen = [name for name in names if not wanted or name.removeprefix("bench_") in wanted]
    found: list[Result] = []
    for name in chosen:
        print(f"{name} …", file=sys.stderr, flush=True)
        found.extend(importlib.import_module(f"tests.bench.{name}").results())
    width = max((len(result.name) for result in found), default=0)
    print(f"{'what':<{width}}  {'ours':>10}  {'theirs':>10}  unit   ratio  goal")
    for result in found:
        mark = "" if result.met else "  MISSED"
        figures = f"{result.ours:>10.4g}  {result.theirs:>10.4g}  {result.unit:<5}  {result.ratio:>5.2f}"
        print(f"{result.name:<{width}}  {figures}  {result.goal}{mark}")
    return 0 if all(result.met for result in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
