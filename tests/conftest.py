"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and research data that lies beside the checkout on machines that have it."""
    folder = Path(os.environ.get("WISETUNE_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no reference folder at {folder} (set WISETUNE_SHARED)")
    return folder
