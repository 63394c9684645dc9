"""Every kind is found by name, refuses options that it does not use, and is pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from msctl.errors import ExitCode, UsageError
from msctl.export import KINDS, ExportKind, ExportOptions, export, find
from msctl.export.kind import File, Notice, collect
from tests.unit.export import projects


def test_documentation_names_every_kind() -> None:
    assert [kind.name for kind in KINDS] == [
        "docker",
        "compose",
        "kubernetes",
        "helm",
        "nginx",
        "kong",
        "rabbitmq",
        "prometheus",
        "grafana",
        "gitlab-ci",
        "jenkins",
        "systemd",
        "procfile",
    ]


def test_unknown_kind_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find("kubernets")
    assert 'did you mean "kubernetes"?' in str(caught.value.hint)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_files_stay_within_their_folder_and_end_with_a_newline(kind: ExportKind) -> None:
    for file in export(kind.name, projects.shop()).files:
        path = PurePosixPath(file.path)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert file.text.endswith("\n")
        assert "\t" not in file.text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_notice_names_a_key_and_every_notice_is_given_once(kind: ExportKind) -> None:
    notices = export(kind.name, projects.shop()).notices
    assert len(set(notices)) == len(notices)
    assert all(re.fullmatch(r"[\w*.-]+", notice.key) and notice.text for notice in notices)


@pytest.mark.parametrize(
    ("kind", "options", "flag"),
    [
        ("nginx", ExportOptions(namespace="x"), "--namespace"),
        ("docker", ExportOptions(monitoring=True), "--monitoring"),
        ("grafana", ExportOptions(targets=("a:1",)), "--target"),
        ("compose", ExportOptions(gateway_api="x"), "--gateway-api"),
    ],
)
def test_option_that_a_kind_does_not_use_is_an_error(kind: str, options: ExportOptions, flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag} has no effect on {kind}"):
        export(kind, projects.course(), options)


def test_error_lists_the_options_of_the_kind() -> None:
    with pytest.raises(UsageError) as caught:
        export("nginx", projects.course(), ExportOptions(namespace="x"))
    assert caught.value.hint == "its options are --listen"
    with pytest.raises(UsageError) as caught:
        export("grafana", projects.course(), ExportOptions(namespace="x"))
    assert caught.value.hint == "it has no options"


def test_repeated_notice_is_kept_once() -> None:
    found = collect([Notice("a", "b"), File("x", "y"), Notice("a", "b")])
    assert (len(found.files), len(found.notices)) == (1, 1)
