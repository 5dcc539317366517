"""What templates may ask for: built files, glyphs and chips of states, and one way each to write a number.

All of it is a Django template library that every template has without loading it.
"""

from __future__ import annotations

import datetime
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.contrib.humanize.templatetags.humanize import intcomma
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from ml_core.job import time_text
from webapp.datasets.models import Revision
from webapp.jobs.models import State
from webapp.jobs.results.headline import headline
from webapp.jobs.results.progress_text import kind_title, progress_words, took
from webapp.jobs.results.tracked_metric import watched

register = template.Library()

NOTHING = "\N{EN DASH}"
"""Stands where a value would, so that no cell is blank."""

for _filter in (headline, kind_title, progress_words, took, watched):
    register.filter(_filter)


@register.filter
def duration(value: float | datetime.timedelta | None) -> str:
    """Seconds, or a span of time, as a person would say them; nothing for nothing."""
    if value is None:
        return ""
    return time_text.duration(value.total_seconds() if isinstance(value, datetime.timedelta) else value)


# --- the front end's built files --------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _read_manifest(path: Path, changed: int) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return entries


def manifest() -> dict[str, Any]:
    """Vite's manifest, read again when a build has changed it; empty where nothing is built."""
    path = settings.FRONTEND / "manifest.json"
    try:
        return _read_manifest(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


def _styles(entries: dict[str, Any], name: str, seen: set[str]) -> list[str]:
    """Style sheets of an entry, those of what it imports first."""
    if name in seen:
        return []
    seen.add(name)
    found: list[str] = []
    for imported in entries[name].get("imports", ()):
        found += _styles(entries, imported, seen)
    return found + [css for css in entries[name].get("css", ()) if css not in found]


@register.simple_tag
def asset(name: str) -> SafeString:
    """The style sheets and the script that Vite built from the entry `name`, as `job.ts`."""
    entries = manifest()
    if name not in entries:
        return SafeString("")
    links = format_html_join(
        "", '<link rel="stylesheet" href="{}">', ([static(f)] for f in _styles(entries, name, set()))
    )
    return links + format_html('<script type="module" src="{}"></script>', static(entries[name]["file"]))


@register.simple_tag
def asset_file(name: str) -> str:
    """The address of a picture that a style sheet uses, as `icon.svg`."""
    entries = manifest()
    return static(entries[name]["file"]) if name in entries else "data:,"


# --- glyphs and chips -------------------------------------------------------------------------------------------

_STROKE = 'fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round"'
_GLYPHS = {
    "waiting": '<g fill="currentColor"><circle cx="3.5" cy="8" r="1.4"/><circle cx="8" cy="8" r="1.4"/>'
    '<circle cx="12.5" cy="8" r="1.4"/></g>',
    "queued": f'<circle cx="8" cy="8" r="5" {_STROKE}/>',
    "running": f'<circle cx="8" cy="8" r="5" {_STROKE}/><path d="M8 3a5 5 0 0 0 0 10z" fill="currentColor"/>',
    "stopping": f'<rect x="3" y="3" width="10" height="10" {_STROKE}/><path d="M3 3h5v10H3z" fill="currentColor"/>',
    "paused": f'<path d="M5.5 3.5v9M10.5 3.5v9" {_STROKE}/>',
    "done": f'<path d="M3 8.5 6.5 12 13 4.5" {_STROKE}/>',
    "failed": '<path d="M8 2.5 14.2 13H1.8z" fill="currentColor"/>',
    "cancelled": f'<circle cx="8" cy="8" r="5" {_STROKE}/><path d="M4.6 11.4l6.8-6.8" {_STROKE}/>',
    "warning": f'<path d="M8 2.5 14.2 13H1.8z" {_STROKE}/><path d="M8 6.5v3M8 11.4v.1" {_STROKE}/>',
    "menu": f'<path d="M2.5 4h11M2.5 8h11M2.5 12h11" {_STROKE}/>',
    "person": f'<circle cx="8" cy="5.5" r="2.5" {_STROKE}/><path d="M3 13.5a5 5 0 0 1 10 0" {_STROKE}/>',
    "next": f'<path d="M6 3.5 10.5 8 6 12.5" {_STROKE}/>',
    "previous": f'<path d="M10 3.5 5.5 8 10 12.5" {_STROKE}/>',
    "up": f'<path d="M3.5 10 8 5.5 12.5 10" {_STROKE}/>',
    "down": f'<path d="M3.5 6 8 10.5 12.5 6" {_STROKE}/>',
    "front": f'<path d="M3 3h10M3.5 11.5 8 7l4.5 4.5" {_STROKE}/>',
    "search": f'<circle cx="7" cy="7" r="4" {_STROKE}/><path d="M10 10l3.5 3.5" {_STROKE}/>',
}


@register.simple_tag
def glyph(name: str) -> SafeString:
    """One of our glyphs, 16 px, in the colour of the text; it stands beside a word and is not read out."""
    return mark_safe(  # noqa: S308 - constants of this file
        f'<svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">{_GLYPHS[name]}</svg>'
    )


@register.simple_tag
def state_chip(state: str) -> SafeString:
    """A job's state as glyph and word."""
    return chip(state, State(state).label)


@register.simple_tag
def chip(kind: str, text: object) -> SafeString:
    """`text` beside the glyph of `kind`, on its tint."""
    return format_html('<span class="chip {}">{}{}</span>', kind, glyph(kind), text)


@register.inclusion_tag("parts/chips.html")
def all_state_chips() -> dict[str, object]:
    """Every state's chip inside a <template>, for scripts to copy."""
    return {"states": State.values}


# --- numbers ----------------------------------------------------------------------------------------------------


@register.filter
def count(value: int | None) -> str:
    """12400 -> 12,400; nothing for None."""
    return "" if value is None else str(intcomma(int(value)))


@register.filter
def size(value: int | None) -> str:
    """Bytes in the unit that leaves 1 to 3 digits before the point: 531 MB, 1.4 GB."""
    if value is None:
        return ""
    number, unit = float(value), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "bytes" or number >= 9.95 else f"{number:.1f} {unit}"


@register.filter
def score(value: float | None) -> str:
    """A ratio with three decimals; a dash where there is none."""
    return NOTHING if value is None else f"{value:.3f}"


@register.filter
def figure(value: object) -> str:
    """Any value of a spec, a record or a result, for reading."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(intcomma(value))
    if isinstance(value, float):
        return str(intcomma(int(value))) if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {figure(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(figure(v) for v in value)
    return str(value)


@register.filter
def depth(dtype: str) -> str:
    """A NumPy type as microscopists say it: uint16 -> 16 bit, float32 -> 32 bit float, int16 -> 16 bit signed."""
    kind = dtype.rstrip("0123456789")
    of_kind = {"uint": "", "int": " signed", "float": " float"}
    return f"{dtype[len(kind) :]} bit{of_kind[kind]}" if kind in of_kind else dtype


@register.filter
def plain(value: object) -> str:
    """A number of a thing, not a quantity: #12345 has no thousands mark."""
    return str(value)


@register.filter
def words(value: str) -> str:
    """A key as words: foreground_iou -> foreground IoU."""
    return str(value).replace("_", " ").replace("iou", "IoU")


@register.filter
def words_of(value: str) -> list[str]:
    """A text as its words, for a loop over a few that a template knows."""
    return value.split()


# --- time -------------------------------------------------------------------------------------------------------


@register.simple_tag
def when(value: datetime.datetime | None) -> SafeString:
    """Clock time, with the day unless it is today. The page's script says it in the reader's own zone."""
    if value is None:
        return SafeString(NOTHING)
    local = timezone.localtime(value)
    today = local.date() == timezone.localdate()
    text = local.strftime("%H:%M") if today else f"{local.day} {local.strftime('%b %H:%M')}"
    return format_html('<time datetime="{}" data-local>{}</time>', value.isoformat(), text)


@register.filter
def pixel_size(revision: Revision) -> str:
    """ "5 nm/px", "mixed" or "unknown", from the revision's summary."""
    sizes = revision.summary.get("pixel_sizes") or {}
    known = [s for s in sizes if s not in ("", "None", "null")]
    if not known:
        return "unknown"
    return f"{float(known[0]):g} nm/px" if len(sizes) == 1 else "mixed"
