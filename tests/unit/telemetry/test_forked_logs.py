"""What a forked process logs reaches the hub of the process that it was forked from."""

from __future__ import annotations

import asyncio
import json
import os
import select

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.forks import forks_let_go
from msctl.telemetry.logs.forked import encoded, forked_logs
from msctl.telemetry.logs.hub import LogHub
from tests.support.clock import FakeClock


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # from Python 3.12 on, beside threads
async def test_a_forked_process_logs_through_the_one_it_was_forked_from() -> None:
    logs, loop = LogHub(FakeClock()), asyncio.get_running_loop()
    with forks_let_go(), forked_logs(loop, logs):
        pid = os.fork()
        if pid == 0:
            logs.append("api", "from the fork", "warning", fields={"n": 1})
            os._exit(0)
        os.waitpid(pid, 0)
    assert [(one.service, one.text, one.level, one.fields) for one in logs.tail()] == [
        ("api", "from the fork", "warning", {"n": 1})
    ]


@given(st.text(min_size=0, max_size=20).map(lambda text: text * 500), st.booleans())
def test_a_record_is_one_write_that_is_never_parted(text: str, long: bool) -> None:
    more = {"fields": {"query": "x" * 5000 if long else "x"}}
    record = encoded("api", text, "info", more)
    assert len(record) <= select.PIPE_BUF
    assert record.count(b"\n") == 1
    service, shown, level, _ = json.loads(record)
    assert (service, level) == ("api", "info")
    assert text.startswith(shown.partition("… (")[0]) or shown == text
