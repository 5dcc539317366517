"""Parses numbers as people write them: 1,000 and 0,5 are accepted, ambiguous ones are rejected with a question."""

from __future__ import annotations

import re

_SPACES = " '\u2019\u00a0\u2009\u202f"
_THOUSANDS = re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:[,.{_SPACES}]\d{{3}})+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_MARKS = re.compile(rf"[,.{_SPACES}]")


class Ambiguous(ValueError):
    """A number that can be read in two ways; the text asks which is meant."""


def as_number(text: str, *, kind: str) -> str:
    """Converts the text of a field of this kind ("integer", "number") to Python's notation.

    1000 for "1,000" and "1 000", 0.5 for "0,5"; text that is no number is returned unchanged. Raises Ambiguous.
    """
    if kind == "integer":
        return _whole(text)
    return _decimal(text) if kind == "number" else text


def _whole(text: str) -> str:
    if not _THOUSANDS.fullmatch(text):
        return text
    if "." in text:
        raise Ambiguous(f"{text} can be read in two ways: write {_MARKS.sub('', text)} or {text.partition('.')[0]}.")
    return _MARKS.sub("", text)


def _decimal(text: str) -> str:
    if not _DECIMAL_COMMA.fullmatch(text):
        return text
    point = text.replace(",", ".")
    if _THOUSANDS.fullmatch(text):
        raise Ambiguous(f"{text} can be read in two ways: write {text.replace(',', '')} or {float(point):g}.")
    return point
