"""The garbage collector while the stack's modules are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collections_paused() -> Iterator[None]:
    """Collect nothing meanwhile, and later never look at what is there at the end.

    Imports make a hundred thousand objects that stay; looking through them again and again takes an eighth of
    a start, and later pauses the loop.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
