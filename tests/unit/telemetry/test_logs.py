"""The log hub keeps each service's last lines separately, and followers get all new ones."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing

from msctl.model.events import LogLine, LogQuery
from msctl.telemetry.logs.hub import MAX_LINE, HubHandler, LogHub, current_service, matching
from msctl.telemetry.logs.lines import as_json, as_record
from msctl.telemetry.logs.parsing import parse_record
from msctl.telemetry.trace_context import begin, current_trace
from tests.support.clock import FakeClock


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_a_busy_service_never_evicts_anothers_lines() -> None:
    hub = LogHub(FakeClock(), capacity=5)
    hub.append("quiet", "the only line")
    for number in range(100):
        hub.append("chatty", str(number))
    assert texts(hub.tail(["quiet"])) == ["the only line"]
    assert texts(hub.tail(["chatty"])) == ["95", "96", "97", "98", "99"]


def test_an_exception_that_a_framework_logs_is_in_the_span() -> None:
    logger = logging.getLogger("test.framework")
    logger.addHandler(HubHandler(LogHub(FakeClock())))
    context = begin([])
    token = current_trace.set(context)
    try:
        for error in (KeyError("first"), ValueError("second")):
            try:
                raise error
            except (KeyError, ValueError):
                logger.info("handled", exc_info=True)
                assert not hasattr(context, "exception") or error.args == ("second",)
                logger.exception("Exception on /orders [GET]")
    finally:
        current_trace.reset(token)
        logger.handlers.clear()
    assert context.exception.attributes["exception.type"] == "KeyError"


def test_lines_of_several_services_are_merged_in_order() -> None:
    hub = LogHub(FakeClock())
    for number in range(6):
        hub.append("even" if number % 2 == 0 else "odd", str(number))
    assert texts(hub.tail()) == ["0", "1", "2", "3", "4", "5"]


def test_a_text_of_several_lines_is_one_record() -> None:
    hub = LogHub(FakeClock())
    hub.append("users", "Traceback:\n  file\nValueError\n", "error")
    assert texts(hub.tail()) == ["Traceback:\n  file\nValueError"]


def test_what_is_printed_is_read() -> None:
    hub = LogHub(FakeClock())
    hub.printed("users", '{"level":"warn","msg":"low","disk":3}', instance="users-1", stream="stderr")
    (line,) = hub.tail()
    assert (line.text, line.level, line.fields, line.stream) == ("low", "warning", {"disk": 3}, "stderr")


def test_lines_are_selected_by_their_lowest_level() -> None:
    hub = LogHub(FakeClock())
    for level in ("debug", "info", "warning", "error"):
        hub.append("users", level, level)
    matches = matching(LogQuery(level="warning"))
    assert [line.text for line in hub.tail() if matches(line)] == ["warning", "error"]


def test_a_long_line_is_cut_with_a_note() -> None:
    hub = LogHub(FakeClock())
    hub.append("users", "x" * (MAX_LINE + 7))
    assert hub.tail()[0].text.endswith("… (7 more characters cut)")


async def test_a_follower_gets_the_tail_and_then_new_lines() -> None:
    hub = LogHub(FakeClock())
    for number in range(5):
        hub.append("users", str(number))
    async with aclosing(hub.follow(LogQuery(("users",), tail=2, follow=True))) as lines:  # type: ignore[type-var]  # a generator behind AsyncIterator
        assert [(await anext(lines)).text, (await anext(lines)).text] == ["3", "4"]
        hub.append("hello", "not asked for")
        hub.append("users", "5")
        assert (await anext(lines)).text == "5"


async def test_without_follow_the_lines_end_with_the_last_one() -> None:
    hub = LogHub(FakeClock())
    hub.append("users", "one")
    assert [line.text async for line in hub.follow(LogQuery())] == ["one"]


async def test_a_slow_follower_gets_the_number_of_skipped_lines() -> None:
    hub = LogHub(FakeClock(), backlog=2)
    lines = hub.follow(LogQuery(tail=0, follow=True))
    hub.append("users", "before")
    async with aclosing(lines):  # type: ignore[type-var]  # a generator behind AsyncIterator
        waiting = hub.follow(LogQuery(tail=1, follow=True))
        async with aclosing(waiting):  # type: ignore[type-var]  # a generator behind AsyncIterator
            assert (await anext(waiting)).text == "before"
            for number in range(5):
                hub.append("users", str(number))
            assert (await anext(waiting)).text == "(3 lines skipped: this reader is too slow)"
            assert (await anext(waiting)).text == "3"


def test_a_listener_is_called_synchronously() -> None:
    hub = LogHub(FakeClock())
    seen: list[str] = []
    hub.listen(lambda line: seen.append(f"{line.service}: {line.text}"))
    hub.append("users", "one")
    assert seen == ["users: one"]


def test_records_of_logging_belong_to_the_service_whose_task_wrote_them() -> None:
    hub = LogHub(FakeClock())
    logger = logging.Logger("some.library")
    logger.addHandler(HubHandler(hub))
    token = current_service.set("users")
    logger.warning("careful with %s", "that")
    current_service.reset(token)
    logger.error("of the stack")
    assert [(line.service, line.level, line.text) for line in hub.tail()] == [
        ("users", "warning", "careful with that"),
        ("msctl", "error", "of the stack"),
    ]


def test_extra_values_are_kept_as_fields() -> None:
    hub = LogHub(FakeClock())
    logger = logging.Logger("x")
    logger.addHandler(HubHandler(hub))
    logger.warning("paid %s", "much", extra={"order": 7, "who": "x" * 1000, "odd": object(), "ok": True})
    (line,) = hub.tail()
    assert line.text == "paid much"
    assert line.fields == {"order": 7, "who": "x" * 256, "ok": True}


def test_a_record_that_the_service_printed_is_kept_once_in_its_own_format() -> None:
    hub = LogHub(FakeClock())
    ours = HubHandler(hub)

    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ours.printed("site", "stderr", record, f"mine: {record.getMessage()}\n")

    logger = logging.Logger("django")
    logger.addHandler(Printing(logging.ERROR))
    logger.addHandler(ours)
    logger.warning("not printed")
    logger.error("printed", extra={"order": 7})
    assert [(line.service, line.level, line.text, line.stream) for line in hub.tail()] == [
        ("msctl", "warning", "not printed", ""),
        ("site", "error", "mine: printed", "stderr"),
    ]
    assert hub.tail()[-1].fields == {"order": 7}


def test_a_line_has_the_current_trace() -> None:
    hub = LogHub(FakeClock())
    hub.append("users", "before")
    context = begin([])
    token = current_trace.set(context)
    hub.append("users", "during\nit", instance="users-1")
    current_trace.reset(token)
    assert [(line.trace, line.instance) for line in hub.tail()] == [
        (None, ""),
        (context.trace_id, "users-1"),
    ]


def test_a_stack_reads_back_what_an_isolated_service_logs() -> None:
    line = LogLine(1, 1.0, "users", "error", "two\nlines", "users-1", "ab" * 16, {"order": 7, "ok": True})
    found = parse_record(as_record(line))
    assert (found.text, found.level, found.trace) == (line.text, line.level, line.trace)
    assert found.fields == line.fields
    assert (
        as_record(LogLine(1, 1.0, "users", "info", "  File", "users-1", "ab" * 16, {}, "stderr")) == "  File"
    )


def test_a_line_is_one_json_document() -> None:
    line = LogLine(1, 1_700_000_000.25, "users", "info", "hi\n", "users-1", "ab" * 16, {"n": 1})
    assert json.loads(as_json(line)) == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "info",
        "service": "users",
        "instance": "users-1",
        "trace_id": "ab" * 16,
        "message": "hi\n",
        "fields": {"n": 1},
    }
    assert "\n" not in as_json(line)
    assert list(json.loads(as_json(LogLine(1, 0.0, "users", "info", "hi")))) == [
        "time",
        "level",
        "service",
        "message",
    ]
