"""How a test reads a page: as the words that a person sees, or as its markup with nothing left to chance."""

from __future__ import annotations

import html
import re

_PICTURES = re.compile(r"<(script|svg)\b.*?</\1>", re.S)
_TAGS = re.compile(r"<[^>]+>")
_TOKENS = re.compile(r'(name="csrfmiddlewaretoken" value=)"[^"]*"')


def words(markup: str) -> str:
    """The text of `markup`: tags, scripts and pictures left out, white space joined, entities as their characters."""
    return html.unescape(" ".join(_TAGS.sub(" ", _PICTURES.sub(" ", markup)).split()))


def markup_without_chance(page: str) -> str:
    """The markup without scripts, and without the random letters of its tokens, which may spell any short word."""
    return _TOKENS.sub(r'\1""', _PICTURES.sub(" ", page))
