"""An application that configures logging takes nobody's records away."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator

import pytest

from msctl.telemetry.logs.root_logger import enabled_loggers, restore_root_handler, root_handler

CONFIGURATION = {
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["null"], "level": "ERROR"},
}


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    disabled = [one for one in root.manager.loggerDict.values() if getattr(one, "disabled", False)]
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    for one in root.manager.loggerDict.values():
        if isinstance(one, logging.Logger):
            one.disabled = one in disabled


def test_records_come_again_after_an_application_has_configured_logging() -> None:
    kept = Kept()
    ours, silenced = logging.getLogger("msctl.test"), logging.getLogger("shop.silenced")
    others = logging.getLogger("of.another.service")  # or its own, where it is imported again
    silenced.disabled = True
    with root_handler(kept):
        enabled = enabled_loggers()
        logging.config.dictConfig(CONFIGURATION)
        for logger in (ours, others):
            logger.info("lost")
        restore_root_handler(enabled)
        silenced.info("lost")
        ours.info("ours")
        others.info("another's")
        logging.getLogger("shop.made_later").info("theirs")
    assert kept.texts == ["ours", "another's", "theirs"]


def test_handlers_beside_ours_stay(root: logging.Logger) -> None:
    other = Kept()
    with root_handler(Kept()):
        root.addHandler(other)
        restore_root_handler([])
        assert other in root.handlers
