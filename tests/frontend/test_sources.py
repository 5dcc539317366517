"""The front end's sources: types hold, and colours and sizes come from the tokens alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from webapp.datasets.classes import CLASS_COLOURS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "webapp" / "frontend"
STYLES = [path for path in SOURCES.rglob("*.css") if path.name != "tokens.css"]
TEMPLATES = list((ROOT / "webapp" / "templates").rglob("*.html"))
# rgb(from var(--token) ...) makes a shade of a token; any other is a colour of its own.
COLOUR = re.compile(r"#[0-9a-f]{3,8}\b|\b(?:rgba?|hsla?|oklch)\((?!from var\()", re.IGNORECASE)


@pytest.mark.slow
def test_the_types_hold() -> None:
    if not (ROOT / "node_modules" / "typescript").is_dir() or not shutil.which("npx"):
        pytest.skip("The front end's packages are not installed: run `npm ci`.")
    checked = subprocess.run(["npx", "tsc", "--noEmit"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_a_style_sheet_has_no_colour_and_no_type_size_of_its_own(path: Path) -> None:
    text = re.sub(r"/\*.*?\*/|url\([^)]*\)", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"[^{};]*\{", "", text)  # selectors may hold an id
    assert COLOUR.findall(text) == []
    assert re.findall(r"font-size:[^;]*", text) == []
    assert [f for f in re.findall(r"font:\s*([^;]*)", text) if not re.fullmatch(r"var\(--\w+\)", f)] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_inline_style_or_handler_and_loads_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"\sstyle\s*=|<style|\son[a-z]+\s*=|\shx-on|hx-vals=[\"']js:", text) == []
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", text) == []


def test_every_token_has_a_value_in_both_themes() -> None:
    tokens = (SOURCES / "styles" / "tokens.css").read_text()
    same_in_both = {"surround", "mask", "prediction", "class-3", "class-4", "class-5", "on-image", "casing"}
    for name, value in re.findall(r"--([\w-]+):\s*([^;]*);", tokens):
        if COLOUR.search(value):
            assert value.startswith("light-dark(") or name in same_in_both, name


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _ratio(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_can_be_read_and_marks_can_be_seen(theme: int) -> None:
    tokens = (SOURCES / "styles" / "tokens.css").read_text()
    pairs = re.findall(r"--([\w-]+):\s*light-dark\((#\w{6}), (#\w{6})\)", tokens)
    colour = {name: values[theme] for name, *values in pairs}
    texts = [("text", ground) for ground in ("ground", "surface", "sunken", "selected")]
    texts += [("muted", "ground"), ("muted", "surface"), ("accent", "surface"), ("on-accent", "accent")]
    texts += [(f"{state}-ink", f"{state}-tint") for state in ("idle", "running", "warning", "done", "failed")]
    for ink, ground in texts:
        assert _ratio(colour[ink], colour[ground]) >= 4.5, (ink, ground)
    marks = [f"run-{n}" for n in range(1, 7)] + ["control-edge"]
    for mark in marks:
        assert _ratio(colour[mark], colour["surface"]) >= 3, mark


def test_the_classes_have_the_colours_in_the_viewer_that_the_server_gives_them() -> None:
    tokens = (SOURCES / "styles" / "tokens.css").read_text()
    shown = [re.search(rf"--{name}: (#\w+)", tokens) for name in ("mask", "class-3", "class-4", "class-5")]
    assert tuple(found[1].upper() for found in shown if found) == CLASS_COLOURS
