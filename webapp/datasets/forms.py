"""Forms about datasets."""

from __future__ import annotations

from django import forms

from webapp.datasets.models import Dataset


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
