"""Fixtures of other folders that these tests use."""

from tests.integration.conftest import course

__all__ = ["course"]
