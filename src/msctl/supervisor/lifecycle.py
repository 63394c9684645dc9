"""The states of an instance and the steps between them, as one table.

The table is the only way to a new state, so "ready" is never shown before the step that leads to it.
Knows nothing of time, processes or sockets; the diagram in docs/lifecycle.md is generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from msctl.model.snapshots import State


class Step(StrEnum):
    """What can happen to an instance."""

    START = "start"
    """A user or a dependent asked for it."""
    PROCEED = "proceed"
    """Its dependencies are satisfied, or its backoff has passed: it is launched."""
    SKIP = "skip"
    """A dependency has failed."""
    UP = "up"
    """Its process runs; its readiness is not known yet."""
    PASS = "pass"  # noqa: S105 - a probe that passed
    """A probe passed, or a hosted application has started and listens."""
    PROBE_FAILED = "probe failed"
    """Its probe failed three times; once is enough for an external service at its start."""
    STOP = "stop"
    """A user stops it, or it is about to be replaced."""
    GONE = "gone"
    """It has stopped."""
    DONE = "done"
    """It exited by itself, successfully."""
    RETRY = "retry"
    """It failed and will be tried again."""
    FAIL = "fail"
    """It failed and will not be tried again."""


_ENDINGS: Mapping[Step, State] = {
    Step.DONE: State.EXITED,
    Step.RETRY: State.BACKOFF,
    Step.FAIL: State.FATAL,
    Step.STOP: State.STOPPING,
}
_AT_REST: Mapping[Step, State] = {Step.START: State.WAITING, Step.STOP: State.STOPPED}

TRANSITIONS: Mapping[State, Mapping[Step, State]] = MappingProxyType(
    {
        State.STOPPED: {Step.START: State.WAITING},
        State.WAITING: {
            Step.PROCEED: State.STARTING,
            Step.SKIP: State.SKIPPED,
            Step.STOP: State.STOPPED,
            Step.FAIL: State.FATAL,
        },
        State.STARTING: {**_ENDINGS, Step.UP: State.RUNNING, Step.PASS: State.READY},
        State.RUNNING: {**_ENDINGS, Step.PASS: State.READY, Step.PROBE_FAILED: State.UNHEALTHY},
        State.READY: {**_ENDINGS, Step.PROBE_FAILED: State.UNHEALTHY},
        State.UNHEALTHY: {**_ENDINGS, Step.PASS: State.READY},
        State.BACKOFF: {
            Step.PROCEED: State.STARTING,
            Step.STOP: State.STOPPED,
            Step.DONE: State.EXITED,
            Step.FAIL: State.FATAL,
        },
        State.STOPPING: {
            Step.GONE: State.STOPPED,
            Step.DONE: State.EXITED,
            Step.RETRY: State.BACKOFF,
            Step.FAIL: State.FATAL,
        },
        State.EXITED: _AT_REST,
        State.FATAL: _AT_REST,
        State.SKIPPED: _AT_REST,
    }
)

AT_REST = frozenset({State.STOPPED, State.EXITED, State.FATAL, State.SKIPPED})
"""Nothing of the instance runs, and nothing happens until somebody starts it."""

SETTLED = AT_REST | {State.READY, State.UNHEALTHY}
"""States that answer a `start`: ready, unhealthy after it was ready, or at rest."""


class IllegalStepError(RuntimeError):
    """A step that the table does not have: a bug in the supervisor, never in a user's service."""


def advance(state: State, step: Step) -> State:
    """The state after `step`; raises IllegalStepError where the table has none."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise IllegalStepError(f"no step {step!r} from the state {state}") from None


_WORST_FIRST = (
    State.FATAL,
    State.SKIPPED,
    State.BACKOFF,
    State.UNHEALTHY,
    State.STOPPING,
    State.WAITING,
    State.STARTING,
    State.RUNNING,
    State.EXITED,
    State.STOPPED,
    State.READY,
)


def combined(states: tuple[State, ...]) -> State:
    """The state of a service with instances in `states`: ready only if all are ready."""
    return min(states, key=_WORST_FIRST.index, default=State.STOPPED)


def mermaid() -> str:
    """The table as a Mermaid state diagram, steps in the table's order."""
    lines = ["stateDiagram-v2", "    [*] --> stopped"]
    lines += [
        f"    {state} --> {target}: {step}"
        for state, steps in TRANSITIONS.items()
        for step, target in steps.items()
    ]
    return "\n".join(lines) + "\n"
