"""The public face."""

from __future__ import annotations

import pytest

import wisetune


@pytest.mark.parametrize("name", wisetune.__all__)
def test_every_public_name_is_where_it_is_said_to_be(name):
    assert getattr(wisetune, name) is not None
