"""Fixtures of other folders that these tests use."""

from tests.process.conftest import course

__all__ = ["course"]
