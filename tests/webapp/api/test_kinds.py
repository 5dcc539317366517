"""What scripts may ask for: the API says what the form says."""

from __future__ import annotations

from django.test import Client

from ml_core.specs import fields_of, from_preset
from tests.webapp.api.test_api import bearer
from webapp.jobs.forms.job_form import KINDS
from webapp.projects.models import User


def test_a_script_learns_every_field_with_its_values_and_where_it_has_no_effect(client: Client, vera: User) -> None:
    kinds = {row["kind"]: row for row in client.get("/api/v1/kinds", headers=bearer(vera)).json()}
    assert tuple(kinds) == KINDS
    segment = kinds["segment"]
    assert segment["presets"]["paper"] == from_preset("segment", "paper").model_dump(mode="json")
    assert [slot["name"] for slot in segment["inputs"]] == ["dataset", "encoder"]
    fields = {row["name"]: row for row in segment["fields"]}
    assert list(fields) == [info.name for info in fields_of("segment")]
    assert fields["weights"]["choices"] == {"frozen": "Frozen (paper)", "fine-tuned": "Fine-tuned"}
    assert fields["prediction_tile"]["words"] == {"0": "as large as the crops"}
    assert fields["prediction_tile"]["multiple"] == 32
    assert {"fields": {"framing": ["resize"]}, "given": [], "absent": [], "taken": False} in fields["resolution"][
        "idle"
    ]
