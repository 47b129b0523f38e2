"""The catalog of stories: one module of this package is one story."""

from __future__ import annotations

from wisetune.catalog import Catalog
from wisetune.stories.story import Story

STORIES: Catalog[Story] = Catalog("story", "wisetune.stories", Story, machinery=("story", "stories"))
