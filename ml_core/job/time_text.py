"""Formats durations, the same at a terminal and on a page; `shared/times.ts` does it for times that a page counts."""

from __future__ import annotations


def duration(seconds: float, *, whole_minutes_from: int = 600) -> str:
    """Formats seconds for a person: 8 s, 3 min 20 s, 22 min, 2 h 5 min, 4 d 3 h.

    From `whole_minutes_from` seconds on, the seconds beside minutes are left out.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 0)} s"
    if whole < min(whole_minutes_from, 3600):
        return _two(whole, 60, "min", 1, "s")
    if whole < 3600:
        return f"{round(whole / 60)} min"
    if whole < 86400:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86400, "d", 3600, "h")


def _two(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    count, rest = divmod(seconds, large)
    return f"{count:,} {large_unit}" + (f" {rest // small} {small_unit}" if rest // small else "")
