"""The documentation cannot drift: what is generated is current, and what pages name exists."""

from __future__ import annotations

import re
import tomllib
from types import ModuleType

import pytest

import msctl.amqp
import msctl.testing
from msctl.cli.verb_group import VERBS
from msctl.errors import ExitCode
from tests.support.docs import FOLDER, documents
from tests.support.pages import ROOT, commands, pages, steps, text_of

PAGES = list(pages())


@pytest.mark.parametrize(("name", "text"), list(documents()), ids=lambda value: value[:20])
def test_generated_documents_are_current(name: str, text: str) -> None:
    """`python -m tests.support.docs` writes them."""
    assert (FOLDER / name).read_text() == text


@pytest.mark.parametrize("page", PAGES)
def test_verbs_that_a_page_names_exist(page: str) -> None:
    text = text_of(page)
    code = "\n".join([*commands(text), *re.findall(r"`(msctl [^`]+)`", text)])
    assert set(re.findall(r"\bmsctl (?:-\S+ \S+ )*([a-z]+)\b", code)) <= set(VERBS)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text_of(page)):
        file = folder / target if target else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {
        (ROOT / target).resolve() for target in re.findall(r"\]\((?!http)([^)#]+)", text_of("README.md"))
    }
    missing = [file.name for file in FOLDER.glob("*.md") if file.resolve() not in linked]
    assert missing == []


HOW_TO = [page for page in PAGES if page.startswith("docs/") and page != "docs/architecture.md"]


@pytest.mark.parametrize("page", HOW_TO)
def test_page_begins_with_an_example_and_shows_its_output(page: str) -> None:
    first = next(step for step in steps(text_of(page)) if step.shown is not None)
    assert text_of(page)[: first.span[0]].count("\n## ") == 0


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_a_page_are_of_a_kind_that_tests_know(page: str) -> None:
    """A block ```bash would show commands that nobody runs."""
    fences = re.findall(r"^ *```(.*)$", text_of(page), flags=re.MULTILINE)
    assert set(fences[::2]) <= {"sh", "console", "text", "toml", "python", "yaml"}
    assert set(fences[1::2]) <= {""}


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \|", text_of("docs/debugging.md"), flags=re.MULTILINE)
    assert [int(row) for row in rows] == list(map(int, ExitCode))


@pytest.mark.parametrize("module", [msctl, msctl.amqp, msctl.testing])
def test_public_names_are_documented(module: ModuleType) -> None:
    page = text_of("docs/python-api.md")
    names = set(module.__all__) - {"__version__"}
    assert names
    assert [name for name in names if not re.search(rf"`{name}\b", page)] == []


ARCHITECTURE = text_of("docs/architecture.md")
INLINE = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", ARCHITECTURE, flags=re.DOTALL)))


def test_paths_of_the_architecture_exist() -> None:
    paths = {code for code in INLINE if re.fullmatch(r"[\w/]+(\.py|\.toml|/)", code)} - {"msctl.toml"}
    assert len(paths) > 60
    missing = [
        path for path in paths if not (ROOT / "src/msctl" / path).exists() and not (ROOT / path).exists()
    ]
    assert missing == []


DEFINITION = re.compile(
    r"^\s*(?:class|(?:async )?def) (\w+)|^\s*(?:self\.)?(\w+)(?:: [^=\n]+)? = |^\s+(\w+): ", re.MULTILINE
)


def test_names_of_the_architecture_are_defined() -> None:
    names = {code for code in INLINE if re.fullmatch(r"[A-Z]\w+(\.\w+)?", code)} - {"NAME"}
    names -= {code for code in names if code.startswith("MSCTL_")}
    assert len(names) > 30
    defined = {
        name
        for file in (ROOT / "src/msctl").rglob("*.py")
        for found in DEFINITION.findall(file.read_text(encoding="utf-8"))
        for name in found
    }
    assert {part for name in names for part in name.split(".")} - defined == set()


def test_layers_of_the_architecture_are_those_that_are_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    checked = [line.replace("msctl.", "").split(" | ") for line in layers[1:]]
    shown = re.search(r"```text\n(cli\n.*?)```", ARCHITECTURE, flags=re.DOTALL)
    assert shown is not None
    assert [line.split() for line in shown[1].splitlines()] == checked


def test_pictures_are_small() -> None:
    pictures = list((FOLDER / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 200 * 1024, picture
