"""Finds which project a command is about, without reading all that it declares.

`status` and `down` need no more than this, so it imports nothing that takes time; what is not plain
(a name from a variable, a `.env`, an error) is left to `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msctl.config.reading.project_ref import NAME_KEY, NAME_VARIABLE, ProjectRef, choose, plain_name


def identify(
    *,
    file: Path | None = None,
    cwd: Path,
    env: Mapping[str, str],
    env_file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> ProjectRef:
    """The name and folder that `load` would give, without looking at the services.

    A file with a mistake elsewhere still has a name, so `status` and `down` work beside it.
    Raises ConfigError.
    """
    chosen = choose(file, cwd)
    wanted = (overrides or {}).get(NAME_KEY)
    if env_file is None and not env.get(NAME_VARIABLE):
        plain = plain_name(chosen, wanted)
        if plain is not None:
            return ProjectRef(plain, None if chosen is None else chosen.path.parent)
    from msctl.config.reading.load import resolve_identity  # imports all there is to know of keys

    return resolve_identity(chosen, cwd=cwd, env=env, env_file=env_file, overrides=overrides)
