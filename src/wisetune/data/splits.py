"""Which items are held out: stratified by class, by seed and name, never by the order in which a file system lists them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from wisetune.data.task import Data, Split, SplitName
from wisetune.errors import UsageError
from wisetune.runtime import seed_of

Part = SplitName | None


def rank(keys: Sequence[str], seed: int, purpose: str) -> list[int]:
    """Positions of ``keys`` in a random order that depends on seed, purpose and each key alone, not on their order or number."""
    return sorted(range(len(keys)), key=lambda at: (seed_of(seed, purpose, keys[at]), keys[at]))


def draw_per_class(labels: Int64[np.ndarray, " n"], names: Sequence[str], most: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Rows of at most ``most`` items of each class, in their order; more of the same seed are the same ones and others."""
    return np.array(draw(labels.tolist(), names, most, seed, "labelled"), np.int64)


def draw(kinds: Sequence[Hashable], names: Sequence[str], most: int, seed: int, purpose: str) -> list[int]:
    """Positions of at most ``most`` items of each kind, in their order, drawn by seed, purpose and name."""
    taken: Counter[Hashable] = Counter()
    rows: list[int] = []
    for row in rank(names, seed, purpose):
        taken[kinds[row]] += 1
        if taken[kinds[row]] <= most:
            rows.append(row)
    return sorted(rows)


def at_most_per_class(split: Split, most: int | None, seed: int) -> Split:
    """The split with at most ``most`` clouds of each class, drawn by seed; None takes all."""
    return split if most is None else split.take(draw_per_class(split.labels, split.names, most, seed))


def numbered(words: Sequence[str]) -> tuple[tuple[str, ...], Int64[np.ndarray, " n"]]:
    """The different words, sorted, and the place of each word among them."""
    different = tuple(sorted(set(words)))
    places = {word: at for at, word in enumerate(different)}
    return different, np.array([places[word] for word in words], np.int64)


def parted(items: Iterable[tuple[str, SplitName]]) -> dict[str, tuple[SplitName, ...]]:
    """The groups whose items are in more than one part, sorted, and those parts; of each item its group and its part."""
    parts: dict[str, set[SplitName]] = defaultdict(set)
    for group, part in items:
        parts[group].add(part)
    return {group: tuple(sorted(found)) for group, found in sorted(parts.items()) if len(found) > 1}


def hold_out(labels: Int64[np.ndarray, " n"], groups: Sequence[str], share: float, seed: int, purpose: str) -> Bool[np.ndarray, " n"]:
    """Mark about ``share`` of each class as held out, whole groups at a time.

    Of each class that has two groups or more, at least one is held out and at least one stays; a class with a single group stays. A group
    goes by the class of most of its items. ``share`` 0 holds nothing out.

    Args:
        labels: class of each item.
        groups: what each item is a scan of; items of one group are never parted. Give names that differ where there are no groups.
        share: of the items, in [0, 1).
        seed: with ``purpose``, the random stream.
        purpose: such as "val", so that different parts are drawn differently.

    Raises:
        UsageError: a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(f"the share held out for {purpose} is {share}; it must be at least 0 and less than 1.")
    held = np.zeros(len(labels), bool)
    if share == 0:
        return held
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    by_class: dict[int, list[str]] = defaultdict(list)
    for group, members in rows.items():
        label, _ = min(Counter(labels[members].tolist()).items(), key=lambda pair: (-pair[1], pair[0]))
        by_class[label].append(group)
    for names in by_class.values():
        target = share * sum(len(rows[name]) for name in names)
        taken = 0
        order = [names[at] for at in rank(names, seed, purpose)]
        for name in order[:-1]:  # the last one stays, whatever the share
            size = len(rows[name])
            if taken == 0 or abs(taken + size - target) <= abs(taken - target):
                held[rows[name]] = True
                taken += size
    return held


def assign(
    labels: Int64[np.ndarray, " n"], names: Sequence[str], groups: Sequence[str], given: Sequence[Part], val: float, test: float, seed: int
) -> list[SplitName]:
    """The part of each item: as given, and what is not given held out of train, test first.

    Args:
        labels: class of each item.
        names: one a item, all different.
        groups: as in ``hold_out``; equal to ``names`` where there are none.
        given: the part that the data set itself gives an item, or None.
        val: share of train held out for validation, if no item is given as val.
        test: share held out for test, if no item is given as test.
        seed: what is drawn.

    Raises:
        UsageError: a share outside [0, 1), or names that are not different.
    """
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UsageError(f"two items are named '{twice}'; give each its own name.")
    parts: list[SplitName] = [part or "train" for part in given]
    shares: tuple[tuple[SplitName, float], ...] = (("test", test), ("val", val))
    for part, share in shares:
        if part in given:
            continue
        free = [at for at, now in enumerate(parts) if now == "train"]
        held = hold_out(labels[free], [groups[at] for at in free], share, seed, part)
        for at in np.flatnonzero(held):
            parts[free[at]] = part
    return parts


def without_val(data: Data, text: str, *, chooses: bool) -> str:
    """What is wrong with data that have no validation part, and what to do; empty where they have one.

    Without a choice to be made on it (``chooses``) they may go without, if there is a test part to be measured.
    """
    if len(data.val) or (not chooses and len(data.test)):
        return ""
    lacks = (
        "validation part, on which alpha would be chosen" if chooses else "validation and no test part, so that nothing would be measured"
    )
    train = data.train
    objects = np.arange(len(train)) if train.objects is None else train.objects
    counts = [len(set(objects[train.labels == label].tolist())) for label in range(len(data.classes))]
    if max(counts) > 1:  # one would have been held out of that class
        how = "give a share above 0, such as val=0.2, or leave val out" if "val" in data.protocol else "give data that have one"
        return f"'{text}' has no {lacks}: {how}."
    # What data from elsewhere draw, and what their options are called, is not known.
    test = str(data.protocol.get("test", "given")).partition(" of ")[0] not in ("given", "0", "0.0")
    needs = (
        "3, one each for train, val and test (2 with test=0, or with a test part of their own)" if test else "2, one each for train and val"
    )
    return (
        f"'{text}' has no {lacks}: no class has two clouds (or scanned objects) to part between train and val. A class needs at least {needs}, and "
        "20 or more for numbers that say something: add clouds."
    )
