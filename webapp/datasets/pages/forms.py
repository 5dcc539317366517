"""Reads forms about datasets and reports the outcome on the next page."""

from __future__ import annotations

from collections.abc import Callable

from django import forms
from django.contrib import messages
from django.http import HttpRequest, QueryDict

from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision


class DatasetForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        error_messages={"required": "Give the dataset a name.", "max_length": "At most 200 characters."},
    )
    kind = forms.ChoiceField(
        choices=Dataset.Kind.choices,
        required=False,
        error_messages={"invalid_choice": "Choose micrographs or colour photographs."},
    )


def number_of(post: QueryDict, name: str, *, none: int = 0) -> int:
    """A whole number that a form sent; `none` where it is none."""
    value = post.get(name, "").strip()
    return int(value) if value.isdecimal() and len(value) < 19 else none


def run_edit(request: HttpRequest, change: Callable[[], Revision]) -> None:
    """Makes a change and reports it on the next page, or why it was not made."""
    try:
        made = change()
    except EditRefused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{made.change} This is revision {made.number} now.")


def pinned_revision(request: HttpRequest) -> dict[str, str]:
    return {"revision": request.GET["revision"]} if request.GET.get("revision") else {}
