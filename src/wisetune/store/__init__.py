"""Objects by digest, records, locks; every commit atomic.

A name in this folder's files either holds a whole thing or does not exist: things are written under a temporary name, forced to the
disk, and renamed. Everything carries a checksum, so that what was damaged afterwards is noticed and built again. Importing this
package does not import torch.
"""

from __future__ import annotations

from wisetune.store.objects import Log, Stored, Summary
from wisetune.store.store import Problem, Records, Store

__all__ = ["Log", "Problem", "Records", "Store", "Stored", "Summary"]
