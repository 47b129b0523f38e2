"""Fixtures for every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

import checker

jaxtyping.jaxtyped = checker.sparing(jaxtyping.jaxtyped)  # before anything of ours is imported

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores; set before torch is first imported

if TYPE_CHECKING:
    from wisetune.data.task import Data
    from wisetune.nets.families.point_mae import PointMAESpec


@pytest.fixture(autouse=True)
def _drawn_alike() -> None:
    """What a test draws without a seed of its own (dropout, drop path) does not depend on the tests before it."""
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and research data that lies beside the checkout on machines that have it."""
    folder = Path(os.environ.get("WISETUNE_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no reference folder at {folder} (set WISETUNE_SHARED)")
    return folder


# The pico world is imported by those who ask for it only, so that tests without torch start at once.


@pytest.fixture(scope="session")
def pico_data() -> Data:
    """A task of four solids; see pico.py for the rest of that world."""
    import pico

    return pico.data()


@pytest.fixture(scope="session")
def pico_probe() -> Data:
    """Another task of four solids; only the ball is in both."""
    import pico

    return pico.probe()


@pytest.fixture(scope="session", params=["no class token", "class token"])
def pico_spec(request: pytest.FixtureRequest) -> PointMAESpec:
    """A backbone that trains in a blink, without and with class token."""
    import pico

    return pico.SPEC if request.param == "no class token" else pico.TOKEN_SPEC
