"""Writes the bill of materials of the one-file msctl: CycloneDX 1.6 as JSON.

    python .packaging/sbom.py dist/msctl [-o dist/msctl.cdx.json]

It is read from the file itself and not from pyproject.toml or constraints.txt: the packages from their
metadata in it, the interpreter, and every bundled shared library. cyclonedx-bom describes an environment or a
list of requirements, and sees only the first of these; its library writes and checks the document.
The same file and SOURCE_DATE_EPOCH give the same document.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import re
import sys
import tarfile
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from io import BytesIO
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_METADATA = re.compile(r"lib/python3\.\d+/[^/]+\.dist-info/METADATA")
_LIBRARY = re.compile(r"lib/[^/]+\.so[^/]*")


@dataclass
class Contents:
    """What the file holds, and names other people's work."""

    version: str
    python: str
    digest: str
    packages: dict[str, Message] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each bundled shared library."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the bill of materials of the one-file msctl.")
    parser.add_argument("binary", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args(arguments)
    out: Path = given.out or given.binary.with_name(f"{given.binary.name}.cdx.json")
    text = JsonV1Dot6(describe(read(given.binary))).output_as_string(indent=2)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.stderr.write(f"error: the bill of materials does not match CycloneDX's schema: {problem}\n")
        return 1
    out.write_text(f"{text}\n")
    return 0


def read(binary: Path) -> Contents:
    content = binary.read_bytes()
    head = content[:4096].decode(errors="replace")
    title = re.search(r"^# msctl (\S+) with Python (\S+)", head, re.M)
    skip = re.search(r"^skip=(\d+)$", head, re.M)
    if title is None or skip is None:
        raise SystemExit(f"error: {binary} is not a one-file msctl")
    found = Contents(title[1], title[2], hashlib.sha256(content).hexdigest())
    archive = content.split(b"\n", int(skip[1]) - 1)[-1]
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                continue
            if _METADATA.fullmatch(member.name):
                metadata = BytesParser().parsebytes(stream.read())
                found.packages[canonicalize_name(metadata["Name"])] = metadata
            elif _LIBRARY.fullmatch(member.name):
                found.libraries[Path(member.name).name] = hashlib.sha256(stream.read()).hexdigest()
    return found


def describe(contents: Contents) -> Bom:
    packages = {name: _package(name, metadata) for name, metadata in sorted(contents.packages.items())}
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    direct = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    python = contents.python
    interpreter = Component(
        type=ComponentType.PLATFORM,
        name="cpython",
        version=python,
        bom_ref="cpython",
        purl=PackageURL("generic", name="cpython", version=python),
        cpe=f"cpe:2.3:a:python:python:{python}:*:*:*:*:*:*:*",
        licenses=[LicenseFactory().make_from_string("PSF-2.0")],
    )
    libraries = [
        Component(type=ComponentType.FILE, name=name, bom_ref=f"file:{name}", hashes=[_sha256(digest)])
        for name, digest in sorted(contents.libraries.items())
    ]
    msctl = Component(
        type=ComponentType.APPLICATION,
        name="msctl",
        version=contents.version,
        bom_ref="msctl",
        purl=PackageURL("pypi", name=project["name"], version=contents.version),
        licenses=[LicenseFactory().make_from_string(project["license"])],
        hashes=[_sha256(contents.digest)],
    )
    bom = Bom(
        components=[*packages.values(), interpreter, *libraries],
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, contents.digest),
    )
    bom.metadata.component = msctl
    bom.metadata.timestamp = _build_time()
    for name, component in packages.items():
        needed = _requirements(contents.packages[name])
        bom.register_dependency(component, [packages[other] for other in needed if other in packages])
    bom.register_dependency(interpreter, libraries)
    bom.register_dependency(msctl, [interpreter, *(packages[name] for name in direct if name in packages)])
    return bom


def _package(name: str, metadata: Message) -> Component:
    version = metadata["Version"]
    named = metadata["License-Expression"] or metadata["License"] or _classified(metadata)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{name}@{version}",
        purl=PackageURL("pypi", name=name, version=version),
        description=metadata["Summary"],
        licenses=[LicenseFactory().make_from_string(named)] if named and "\n" not in named else [],
    )


def _classified(metadata: Message) -> str | None:
    """Return the licence of the classifiers: "License :: OSI Approved :: MIT License"."""
    for line in metadata.get_all("Classifier", []):
        if line.startswith("License ::"):
            return str(line).rpartition(" :: ")[2]
    return None


def _requirements(metadata: Message) -> Iterator[str]:
    environment: Mapping[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            yield canonicalize_name(requirement.name)


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _build_time() -> datetime.datetime:
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


if __name__ == "__main__":
    sys.exit(main())
