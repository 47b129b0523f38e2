"""Files and folders written as a whole or not at all. Everything that wisetune writes goes through here."""

from __future__ import annotations

from wisetune.files.atomic import write_bytes, write_json, write_text
from wisetune.files.tmp import clean

__all__ = ["clean", "write_bytes", "write_json", "write_text"]
