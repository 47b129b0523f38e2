"""racer.py WHO: one of two processes that do the same thing at the same moment. Reads `WHAT FOLDER WHEN` lines, answers each.

commit: commit weights that are WHO's alone -> kept | theirs. lock: -> won (then holds it until the next line) | busy: MESSAGE.
count: add one to a number in a file 25 times under the lock, waiting for it -> done. open: make a store of a folder -> done.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from store_samples import RECIPE, tensors

from faults import ignore
from wisetune.errors import Busy
from wisetune.store import Store


def act(what: str, folder: Path, who: int) -> str:
    store = Store(folder, tell=ignore)
    if what == "commit":
        return "kept" if store.commit(RECIPE, tensors(who), [{"who": who}], {"who": who}) else "theirs"
    if what == "count":
        number = folder.parent / "number"
        for _ in range(25):
            with store.lock("number", wait=True):
                number.write_text(str(int(number.read_text()) + 1))
    if what == "lock":
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(store.lock("one"))
            except Busy as busy:
                return f"busy: {busy}"
            print("won", flush=True)
            sys.stdin.readline()
            return "released"
    return "done"


def main(who: int) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        what, folder, when = line.split()
        while time.time() < float(when):
            pass
        print(act(what, Path(folder), who), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
