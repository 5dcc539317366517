"""Strict readers of environment variables: a bad value is refused by name, with what would be good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str | None = None) -> str:
    """The variable, or the content of the file that NAME_FILE points to (for secrets), or the default."""
    value = os.environ.get(name)
    if value is None and (path := os.environ.get(f"{name}_FILE")):
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE={path} cannot be read: {error.strerror}.") from error
    if value is None:
        if default is None:
            raise ImproperlyConfigured(f"{name} is not set, and there is no default for it. See .env.example.")
        return default
    return value


def boolean(name: str, default: bool) -> bool:
    value = text(name, str(default)).strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no: write 1 or 0.")


def integer(name: str, default: int, *, least: int, most: int) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from None
    if not least <= number <= most:
        raise ImproperlyConfigured(f"{name}={number} is out of range: {least} to {most}.")
    return number


def number(name: str, default: float, *, least: float, most: float) -> float:
    value = text(name, str(default))
    try:
        result = float(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a number.") from None
    if not least <= result <= most:
        raise ImproperlyConfigured(f"{name}={value} is out of range: {least:g} to {most:g}.")
    return result


def words(name: str, default: str = "") -> list[str]:
    return [w.strip() for w in text(name, default).split(",") if w.strip()]


def choice(name: str, default: str, among: Sequence[str]) -> str:
    value = text(name, default)
    if value not in among:
        raise ImproperlyConfigured(f"{name}={value!r}: choose one of {', '.join(among)}.")
    return value


def folder(name: str, default: Path) -> Path:
    return Path(text(name, str(default))).expanduser().resolve()
