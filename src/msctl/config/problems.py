"""Several errors of one configuration, raised together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msctl.errors import ConfigError

_MOST = 20


class CombinedConfigError(ConfigError):
    """Two errors of a configuration or more, each with its line and key."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        shown = [
            f"  {error.message}" + (f" ({error.hint})" if error.hint else "") for error in errors[:_MOST]
        ]
        if len(errors) > _MOST:
            shown.append(f"  and {len(errors) - _MOST} more")
        super().__init__("\n".join((f"{len(errors)} errors in the configuration:", *shown)))
        self.errors = tuple(errors)


class Problems:
    """Collects errors, so that a user sees them all at once."""

    def __init__(self) -> None:
        self._errors: list[ConfigError] = []

    def __bool__(self) -> bool:
        return bool(self._errors)

    def add(self, error: ConfigError) -> None:
        if isinstance(error, CombinedConfigError):
            self._errors += error.errors
        else:
            self._errors.append(error)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Collect a ConfigError of the block, and go on after it."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def check(self) -> None:
        """Raise what was collected: nothing, the one error as it is, or all of them."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise CombinedConfigError(self._errors)
