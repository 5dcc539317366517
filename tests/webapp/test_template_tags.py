"""Numbers and times as the pages write them, and the look-up of built files."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.template import Context, Template
from django.utils import timezone

from webapp import template_tags
from webapp.jobs.models import State


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (1320, "22 min"),
        (7500, "2 h 5 min"),
        (360000, "4 d 4 h"),
    ],
)
def test_durations_are_said_as_a_person_would(seconds: float, words: str) -> None:
    assert template_tags.duration(seconds) == words
    assert template_tags.duration(datetime.timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("uint8", "8 bit"),
        ("uint16", "16 bit"),
        ("int16", "16 bit signed"),
        ("float32", "32 bit float"),
        ("bool", "bool"),
    ],
)
def test_a_type_of_numbers_is_said_by_its_bits(dtype: str, words: str) -> None:
    assert template_tags.depth(dtype) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (531_000_000, "531 MB"),
        (999_999, "1.0 MB"),
        (1_400_000_000, "1.4 GB"),
    ],
)
def test_sizes_keep_one_to_three_digits_before_the_point(number: int, words: str) -> None:
    assert template_tags.size(number) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, template_tags.NOTHING),
        ("", template_tags.NOTHING),
        (12400, "12,400"),
        (0.0003, "0.0003"),
        (True, "yes"),
        ([1, 2000], "1, 2,000"),
        ({"a": 1}, "a: 1"),
    ],
)
def test_any_value_of_a_record_can_be_read(value: object, words: str) -> None:
    assert template_tags.figure(value) == words


def test_a_time_of_today_has_no_date_and_carries_its_zone_for_the_reader() -> None:
    now = timezone.now()
    text = template_tags.when(now)
    assert f'datetime="{now.isoformat()}"' in text
    assert now.strftime("%H:%M</time>") in text
    long_ago = datetime.datetime(2024, 3, 5, 14, 2, tzinfo=datetime.UTC)
    assert "5 Mar 14:02" in template_tags.when(long_ago)


def test_every_state_has_its_own_glyph() -> None:
    glyphs = {template_tags.glyph(state) for state in State.values}
    assert len(glyphs) == len(State.values)


def test_a_chip_escapes_its_words() -> None:
    assert "<b>" not in template_tags.chip("done", "<b>")


def test_assets_come_from_the_manifest_with_the_styles_of_what_they_import(
    tmp_path: Path, settings: LazySettings
) -> None:
    settings.FRONTEND = tmp_path
    page = Template('{% asset "job.ts" %}{% asset "absent.ts" %}')
    assert page.render(Context()) == ""
    entries = {
        "job.ts": {"file": "assets/job-1.js", "css": ["assets/job-1.css"], "imports": ["_shared.js"]},
        "_shared.js": {"file": "assets/shared-1.js", "css": ["assets/shared-1.css"], "imports": ["_shared.js"]},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    text = page.render(Context())
    assert text.index("shared-1.css") < text.index("job-1.css") < text.index("job-1.js")
    assert text.count("shared-1.css") == 1
    assert "shared-1.js" not in text
