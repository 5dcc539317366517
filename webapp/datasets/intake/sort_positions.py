"""Sort positions of items in the grid: natural order of names, with gaps for items that are added later."""

from __future__ import annotations

from collections.abc import Sequence

from ml_core.data.naming.stacks import natural

ROOM = 1 << 20
"""Between two neighbours at first: twenty halvings before the dataset has to be numbered anew."""


def positions_between(names: Sequence[str], *, existing: Sequence[tuple[str, int]]) -> list[int] | None:
    """A position for each of `names`, which are in natural order, among `existing` (name, position), in order too.

    None where two neighbours are too close for what has to go between them: then all are numbered anew.
    """
    found: list[int] = []
    place = 0
    start = 0
    keys = [natural(name) for name, _ in existing] if names and existing else []
    own = [natural(name) for name in names]
    while start < len(names):
        while place < len(existing) and keys[place] <= own[start]:
            place += 1
        end = start + 1
        while end < len(names) and (place == len(existing) or own[end] < keys[place]):
            end += 1
        run = end - start
        before = existing[place - 1][1] if place else None
        after = existing[place][1] if place < len(existing) else None
        if after is None:
            first = ROOM if before is None else before + ROOM
            found += [first + ROOM * n for n in range(run)]
        elif before is None:
            found += [after - ROOM * (run - n) for n in range(run)]
        elif after - before <= run:
            return None
        else:
            found += [before + (after - before) * (n + 1) // (run + 1) for n in range(run)]
        start = end
    return found


def numbered_anew(names: Sequence[str]) -> list[int]:
    """Positions for all names of a dataset, in the order in which the names are given."""
    ranks = {index: rank for rank, index in enumerate(sorted(range(len(names)), key=lambda n: natural(names[n])))}
    return [ROOM * (ranks[index] + 1) for index in range(len(names))]
