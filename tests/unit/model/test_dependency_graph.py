"""Order from dependencies, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.errors import ConfigError
from msctl.model import dependency_graph
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import ServiceSpec


def project(**needs: str) -> list[ServiceSpec]:
    """project(a="b c", b="", c="b")"""
    return [
        ServiceSpec(name, command=("true",), depends_on=tuple(Dependency(n) for n in value.split()))
        for name, value in needs.items()
    ]


def test_what_is_needed_comes_in_earlier_waves_and_the_rest_side_by_side() -> None:
    services = project(gateway="", users="db", orders="users db", db="", mail="db")
    assert dependency_graph.waves(services, [s.name for s in services]) == [
        ["gateway", "db"],
        ["users", "mail"],
        ["orders"],
    ]


def test_a_need_outside_the_chosen_names_does_not_count() -> None:
    assert dependency_graph.waves(project(a="b", b=""), ["a"]) == [["a"]]


def test_the_closure_of_a_name_is_what_it_needs_directly_and_indirectly() -> None:
    services = project(a="b", b="c", c="", d="c")
    assert dependency_graph.closure(services, ["a"]) == ["a", "b", "c"]
    assert dependency_graph.closure(services, []) == []


def test_dependents_are_those_that_name_it() -> None:
    assert dependency_graph.dependents(project(a="b", b="", c="b")) == {"a": (), "b": ("a", "c"), "c": ()}


@pytest.mark.parametrize(
    ("services", "cycle"),
    [
        (project(a="b", b="a"), "a → b → a"),
        (project(a="a"), "a → a"),
        (project(x="a", a="b", b="c", c="a"), "a → b → c → a"),
    ],
)
def test_a_cycle_is_refused_and_spelt_out(services: list[ServiceSpec], cycle: str) -> None:
    with pytest.raises(ConfigError, match="in a cycle") as caught:
        dependency_graph.check(services)
    assert cycle in caught.value.message


def test_an_unknown_dependency_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'orders' depends on 'user'") as caught:
        dependency_graph.check(project(orders="user", users=""))
    assert caught.value.hint == 'did you mean "users"?'


def test_an_unknown_dependency_without_a_near_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        dependency_graph.check(project(orders="zzz", users=""))
    assert caught.value.hint == "known here: orders, users"


def test_a_chain_of_thousands_is_no_trouble() -> None:
    names = [f"s{i}" for i in range(3000)]
    services = project(**{n: " ".join(names[i + 1 : i + 2]) for i, n in enumerate(names)})
    dependency_graph.check(services)
    assert len(dependency_graph.closure(services, ["s0"])) == 3000


def test_waves_of_a_cycle_are_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="cycle"):
        dependency_graph.waves(project(a="b", b="a"), ["a", "b"])


def test_without_a_cycle_none_is_found() -> None:
    assert dependency_graph.find_cycle(project(a="b c", b="d", c="d", d="")) == []
    assert dependency_graph.find_cycle([]) == []


def test_layers_that_all_need_each_other_are_searched_once() -> None:
    # Every path is different; there are 2 ** 40 of them.
    layers = {f"s{n}{side}": f"s{n + 1}a s{n + 1}b" for n in range(40) for side in "ab"}
    assert dependency_graph.find_cycle(project(**layers, s40a="", s40b="")) == []


def test_the_refusal_names_its_source() -> None:
    for services in (project(a="a"), project(a="b")):
        with pytest.raises(ConfigError, match=r"^shop\.toml: "):
            dependency_graph.check(services, "shop.toml")
        with pytest.raises(ConfigError, match=r"^msctl\.toml: "):
            dependency_graph.check(services)


names = st.integers(0, 7)


@given(st.dictionaries(names, st.sets(names, max_size=4), min_size=1, max_size=8))
def test_either_there_is_a_cycle_or_every_service_starts_after_what_it_needs(
    needs: dict[int, set[int]],
) -> None:
    services = project(
        **{f"s{n}": " ".join(f"s{m}" for m in sorted(of) if m in needs) for n, of in needs.items()}
    )
    cycle = dependency_graph.find_cycle(services)
    if cycle:
        assert cycle[0] == cycle[-1]
        by_name = {s.name: {d.service for d in s.depends_on} for s in services}
        assert all(after in by_name[before] for before, after in itertools.pairwise(cycle))
        return
    order = dependency_graph.waves(services, [s.name for s in services])
    position = {name: i for i, wave in enumerate(order) for name in wave}
    assert len(position) == len(services)
    assert all(position[d.service] < position[s.name] for s in services for d in s.depends_on)
