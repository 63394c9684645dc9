"""The service of a frame is found by its function."""

from __future__ import annotations

import sys

from msctl.telemetry.logs.frames import serves, service_of


def test_a_marked_function_names_its_service_and_no_other_does() -> None:
    def within() -> list[str | None]:
        frame = sys._getframe()
        assert frame.f_back is not None
        return [service_of(frame), service_of(frame.f_back)]

    @serves
    def marked(msctl_service: str) -> list[str | None]:
        assert msctl_service
        return within()

    def other(msctl_service: str) -> list[str | None]:
        assert msctl_service
        return within()

    assert marked("users") == [None, "users"]
    assert other("users") == [None, None]
