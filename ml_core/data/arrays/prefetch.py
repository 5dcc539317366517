"""Runs work in threads ahead of its consumer and yields results in order. Imports no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ordered_map(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], T]], *, ahead: int = 32) -> Iterator[T]:
    """Yields the results of `jobs` in their order, at most `ahead` submitted at a time: memory stays bounded."""
    coming = iter(jobs)
    running: deque[Future[T]] = deque(pool.submit(job) for job in islice(coming, ahead))
    try:
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(job) for job in islice(coming, 1))
    finally:
        for future in running:
            future.cancel()
