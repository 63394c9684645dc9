"""The life of an instance as one table: which states there are, and what leads from each to which.

The table is the only way to a new state, so a claim such as "ready" is shown only after the step
that earns it. Knows nothing of time, processes or sockets; the README's diagram is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from msctl.model.snapshots import State


class Step(StrEnum):
    """What can happen to an instance."""

    START = "start"
    """Somebody asked for it."""
    PROCEED = "proceed"
    """What it depends on is there, or its backoff has passed: it is being launched."""
    SKIP = "skip"
    """Something it depends on has failed."""
    UP = "up"
    """Its process runs; nothing is known yet of its readiness."""
    PASS = "pass"  # noqa: S105 - a probe that passed
    """It is ready: a probe says so, or an application has started and listens."""
    SICK = "sick"
    """Its probe failed too often; of what runs elsewhere, at once."""
    STOP = "stop"
    """It is told to end, by a user or because it is to be replaced."""
    GONE = "gone"
    """It ended after it was told to."""
    DONE = "done"
    """It ended by itself, and that is fine."""
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
        },
        State.STARTING: {**_ENDINGS, Step.UP: State.RUNNING, Step.PASS: State.READY},
        State.RUNNING: {**_ENDINGS, Step.PASS: State.READY, Step.SICK: State.UNHEALTHY},
        State.READY: {**_ENDINGS, Step.SICK: State.UNHEALTHY},
        State.UNHEALTHY: {**_ENDINGS, Step.PASS: State.READY},
        State.BACKOFF: {
            Step.PROCEED: State.STARTING,
            Step.STOP: State.STOPPED,
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
"""States in which nothing of the instance runs and nothing will happen until somebody asks."""

SETTLED = AT_REST | {State.READY, State.UNHEALTHY}
"""States that answer a `start`: it is ready, has been and may be again, or will not be."""


class IllegalStepError(RuntimeError):
    """A step that the table does not have: a defect of the supervisor, never of a user's service."""


def advance(state: State, step: Step) -> State:
    """The state after `step`; raises IllegalStepError where the table has none."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise IllegalStepError(f"an instance that is {state} cannot take the step {step!r}") from None


_GRAVEST_FIRST = (
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


def together(states: tuple[State, ...]) -> State:
    """What a service is whose instances are in `states`: ready only when all of them are."""
    return min(states, key=_GRAVEST_FIRST.index, default=State.STOPPED)


def mermaid() -> str:
    """The table as a Mermaid state diagram, steps in the table's order."""
    lines = ["stateDiagram-v2", "    [*] --> stopped"]
    lines += [
        f"    {state} --> {target}: {step}"
        for state, steps in TRANSITIONS.items()
        for step, target in steps.items()
    ]
    return "\n".join(lines) + "\n"
