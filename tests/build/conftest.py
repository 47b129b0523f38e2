"""A fast disk for the tests that build many models."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forcing data to the disk is slow, and without effect while the machine itself goes on."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
