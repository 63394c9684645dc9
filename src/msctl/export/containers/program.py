"""A command in a container without msctl: its words and variables, as msctl would fill them in. Pure.

What the export knows (ports, addresses) is filled in. What only the target knows stays a reference: in a
word, for `sh`; in a variable, in the target's own syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msctl.config.reading.layers import SHELLS
from msctl.config.secret_variables import literal_secrets, referenced_env
from msctl.export.kind import ExportError
from msctl.export.shell import reference_words, shell_command
from msctl.export.workloads import EVERYWHERE, Workload
from msctl.model.service_spec import ServiceSpec

_NAMED = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>(?::?[-+?])[^{}]*)?\}|\$(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
)


@dataclass(frozen=True, slots=True)
class Named:
    """A reference to a variable; `operator` is what follows the name, such as `:-default`."""

    name: str
    operator: str
    source: str


def split(text: str, key: str) -> Iterator[str | Named]:
    """Split a text of msctl.toml into literals and references. Raises ExportError for nested references."""
    position = 0
    for match in _NAMED.finditer(text):
        literal = text[position : match.start()]
        if "${" in literal:
            raise ExportError(f"{key}: a ${{...}} within another cannot be exported")
        if literal:
            yield literal
        position = match.end()
        name = match["name"] or match["bare"]
        yield "$" if name is None else Named(name, match["operator"] or "", match.group())
    if "${" in text[position:]:
        raise ExportError(f"{key}: a ${{...}} within another cannot be exported")
    if position < len(text):
        yield text[position:]


def known_variables(workload: Workload) -> dict[str, str]:
    """What msctl would assign to the container's command, but for the broker's URL."""
    found = {"MSCTL_SERVICE": workload.name, "MSCTL_INSTANCE": f"{workload.name}-1", **workload.variables}
    if workload.address is not None:
        found |= {"HOST": EVERYWHERE, "PORT": str(workload.address.port)}
    return found


def written_command(spec: ServiceSpec) -> tuple[str, ...]:
    """The words of the command with the `${...}` of the file in place. Raises ExportError."""
    words = spec.command or ()
    found = {each.key[1:]: each.text for each in spec.references if each.key[0] == "command"}
    if () in found:
        return (
            (*words[:-1], found[()])
            if spec.shell
            else tuple(reference_words(found[()], f"services.{spec.name}.command"))
        )
    return tuple(found.get((index,), word) for index, word in enumerate(words))


def argv(words: Sequence[str], known: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Fill in what is known; for `sh` if there is more to fill in. A script stays as it is."""
    if words[0].rpartition("/")[2] in SHELLS:
        return tuple(words)
    filled = []
    is_open = False
    for word in words:
        pieces = list(split(word, key))
        if all(isinstance(piece, str) or (piece.name in known and not piece.operator) for piece in pieces):
            filled.append(("".join(p if isinstance(p, str) else known[p.name] for p in pieces), True))
            continue
        is_open = True
        filled.append((word, False))
    if not is_open:
        return tuple(word for word, _ in filled)
    return shell_command([word.replace("$", "$$") if done else word for word, done in filled])


def values(
    workload: Workload, known: Mapping[str, str], render: Callable[[Sequence[str | Named]], str | None]
) -> tuple[dict[str, str], list[str]]:
    """The variables of `env` by `render`, and the names of those that only the target can have.

    `render` returns None for references that the target has no syntax for.
    """
    spec = workload.spec
    secret = literal_secrets(spec)
    references = referenced_env(spec)
    found: dict[str, str] = {}
    left = [name for name in spec.env if name in secret]
    pieces_of: dict[str, list[str | Named]] = {name: [value] for name, value in known.items()}
    for name, value in spec.env.items():
        if name in secret:
            continue
        text = references[name].text if name in references else value
        pieces: list[str | Named] = []
        for piece in split(text, f"services.{spec.name}.env.{name}"):
            is_filled = isinstance(piece, Named) and not piece.operator and piece.name in pieces_of
            pieces += pieces_of[piece.name] if is_filled and isinstance(piece, Named) else [piece]
        pieces = pieces_of[name] = _joined(pieces)
        rendered = render(pieces)
        if rendered is None:
            left.append(name)
        else:
            found[name] = rendered
    return found, left


def _joined(pieces: Sequence[str | Named]) -> list[str | Named]:
    """Join literals that stand side by side: a target may read `$` and `(` together."""
    found: list[str | Named] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found
