"""What a simulated run leaves is dropped with it: nothing of it is closed, as after a crash."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.support.garbage import collect_from_here


@pytest.fixture(autouse=True)
def _collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A run ends with this, and the collection below would look at all objects of the session again.
    monkeypatch.setattr(gc, "unfreeze", lambda: None)
    collect_from_here()
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
