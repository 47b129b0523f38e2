"""Files: objects by digest, records, locks; every commit atomic.

A name in this folder's files either holds a whole thing or does not exist: things are written under a temporary name, forced to the
disk, and renamed. Everything carries a checksum, so that what was damaged afterwards is noticed and built again. Importing this
package does not import torch.
"""

from __future__ import annotations

from wisetune.store.atomic import write_bytes, write_json, write_text
from wisetune.store.objects import Log, Stored, Summary
from wisetune.store.store import Problem, Records, Store
from wisetune.store.tmp import clean

__all__ = ["Log", "Problem", "Records", "Store", "Stored", "Summary", "clean", "write_bytes", "write_json", "write_text"]
