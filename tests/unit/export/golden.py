"""The files of each kind, kept in golden/ so that a review shows every change.

python -m tests.unit.export.golden        rewrites them; read the diff before you commit it
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from msctl.export import KINDS, ExportOptions, export
from msctl.model.project import Project
from tests.unit.export import projects

FOLDER = Path(__file__).parent / "golden"
NOTICES = "NOTICES"

PROJECTS: Mapping[str, Callable[[], Project]] = {"course": projects.course, "shop": projects.shop}
VARIANTS: Mapping[str, tuple[str, ExportOptions]] = {
    **{kind.name: (kind.name, ExportOptions()) for kind in KINDS},
    "compose-monitoring": ("compose", ExportOptions(monitoring=True, image="registry.example/shop:1.2")),
    "kubernetes-native-routes": (
        "kubernetes",
        ExportOptions(host="shop.example", gateway_api="infra/public", native_routes=True),
    ),
    "kubernetes-gateway-api": (
        "kubernetes",
        ExportOptions(
            namespace="Prod_1", host="shop.example", gateway_api="public", image="registry.example/shop:1.2"
        ),
    ),
}


def expected(project: str, variant: str) -> dict[str, str]:
    """Return the files, and the notices as one more file."""
    kind, options = VARIANTS[variant]
    found = export(kind, PROJECTS[project](), options)
    files = {file.path: file.text for file in found.files}
    files[NOTICES] = "".join(f"{notice.key}: {notice.text}\n" for notice in found.notices)
    return files


def kept(project: str, variant: str) -> dict[str, str]:
    folder = FOLDER / project / variant
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def write() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for project in PROJECTS:
        for variant in VARIANTS:
            for name, text in expected(project, variant).items():
                path = FOLDER / project / variant / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)


if __name__ == "__main__":
    write()
