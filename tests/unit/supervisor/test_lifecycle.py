"""The table of states: complete, without dead ends, and honest about `ready`."""

from __future__ import annotations

import pytest

from msctl.model.snapshots import State
from msctl.supervisor.lifecycle import (
    AT_REST,
    SETTLED,
    TRANSITIONS,
    IllegalStepError,
    Step,
    advance,
    combined,
    mermaid,
)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_can_be_reached_and_left_again() -> None:
    seen = {State.STOPPED}
    todo = [State.STOPPED]
    while todo:
        for target in TRANSITIONS[todo.pop()].values():
            if target not in seen:
                seen.add(target)
                todo.append(target)
    assert seen == set(State)
    for state in State:
        assert TRANSITIONS[state], f"{state} is a dead end"


def test_only_what_earned_it_becomes_ready() -> None:
    ways = {
        (s, step) for s, row in TRANSITIONS.items() for step, target in row.items() if target is State.READY
    }
    assert ways == {(s, Step.PASS) for s in (State.STARTING, State.RUNNING, State.UNHEALTHY)}


def test_a_stop_is_possible_in_every_state_that_is_not_stopped_already() -> None:
    for state in set(State) - {State.STOPPED, State.STOPPING}:
        assert advance(state, Step.STOP) in (State.STOPPED, State.STOPPING)


def test_what_is_at_rest_moves_only_when_asked() -> None:
    for state in AT_REST:
        assert set(TRANSITIONS[state]) <= {Step.START, Step.STOP}


def test_a_step_that_the_table_lacks_is_refused() -> None:
    with pytest.raises(IllegalStepError, match=r"pass.* stopped"):
        advance(State.STOPPED, Step.PASS)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), State.STOPPED),
        ((State.READY, State.READY), State.READY),
        ((State.READY, State.BACKOFF), State.BACKOFF),
        ((State.FATAL, State.BACKOFF), State.FATAL),
        ((State.READY, State.RUNNING), State.RUNNING),
        ((State.READY, State.STOPPED), State.STOPPED),
    ],
)
def test_a_service_is_as_well_as_its_worst_instance(states: tuple[State, ...], expected: State) -> None:
    assert combined(states) is expected


def test_the_diagram_has_every_step() -> None:
    diagram = mermaid()
    assert diagram.count("-->") == 1 + sum(len(row) for row in TRANSITIONS.values())
    assert diagram.startswith("stateDiagram-v2\n    [*] --> stopped\n    stopped --> waiting: start\n")
    assert diagram.endswith("\n")
    for state, row in TRANSITIONS.items():
        for step, target in row.items():
            assert f"    {state} --> {target}: {step}\n" in diagram


def test_the_steps_have_the_names_that_the_diagram_shows() -> None:
    names = ["start", "proceed", "skip", "up", "pass", "stop", "gone", "done", "retry", "fail"]
    assert sorted(Step) == sorted([*names, "probe failed"])


def test_what_is_settled_answers_a_start() -> None:
    assert AT_REST | {State.READY, State.UNHEALTHY} == SETTLED
    assert {State.STOPPED, State.EXITED, State.FATAL, State.SKIPPED} == AT_REST


@pytest.mark.parametrize(
    ("state", "step", "target"),
    [
        (State.STARTING, Step.UP, State.RUNNING),
        (State.STARTING, Step.STOP, State.STOPPING),
        (State.READY, Step.PROBE_FAILED, State.UNHEALTHY),
        (State.READY, Step.RETRY, State.BACKOFF),
        (State.RUNNING, Step.FAIL, State.FATAL),
        (State.UNHEALTHY, Step.DONE, State.EXITED),
        (State.BACKOFF, Step.PROCEED, State.STARTING),
        (State.BACKOFF, Step.STOP, State.STOPPED),
        (State.STOPPING, Step.GONE, State.STOPPED),
        (State.WAITING, Step.SKIP, State.SKIPPED),
        (State.FATAL, Step.START, State.WAITING),
    ],
)
def test_the_steps_of_a_life(state: State, step: Step, target: State) -> None:
    assert advance(state, step) is target
