"""The form of a new job: what has no effect, what comes from the data, numbers as people write them."""

from __future__ import annotations

import html
import json
import re

import pytest
from django.test import Client

from ml_core.specs import SpecError, from_preset
from tests.webapp.artifacts import keep
from tests.webapp.conftest import EventMaker, JobMaker, Page
from webapp.datasets.models import Revision
from webapp.jobs.forms.job_form import JobForm
from webapp.jobs.models import Job, State
from webapp.jobs.services import job_submit
from webapp.projects.models import Project, User


@pytest.fixture
def client(seen_by: Page, bob: User, revision: Revision) -> Client:
    """Bob, who may edit."""
    return seen_by(bob)


def _sent(form: JobForm, **changes: str) -> dict[str, str]:
    """What a browser would send of the form as it is shown."""
    sent = {field.info.name: field.value for field in form.fields}
    sent |= {slot.name: slot.value for slot in form.slots}
    return {**sent, "kind": form.kind, "preset": form.preset, "name": "", "after": "", **changes}


def _new(project: Project) -> str:
    return f"/projects/{project.pk}/jobs/new/"


def _layers(revision: Revision, **counts: int) -> None:
    revision.summary["masks"] = counts
    revision.save()


def _form(project: Project, kind: str, **changes: str) -> JobForm:
    form = JobForm(project=project, kind=kind)
    return JobForm(project=project, kind=kind, preset=form.preset, data=_sent(form, **changes))


def test_a_field_that_an_input_says_is_told_to_be_taken_from_it(
    client: Client, project: Project, make_job: JobMaker
) -> None:
    encoder = make_job("pretrain", State.DONE, name="byol-colour")
    page = html.unescape(client.get(_new(project) + "?kind=segment").content.decode())
    assert f"ResNet-18, taken from #{encoder.pk} byol-colour." in page
    assert re.search(r'class="field idle" id="field-initial"', page)
    form = _form(project, "segment", **{"slot-encoder": ""})
    assert {"encoder", "initial"}.isdisjoint(form.idle)


def test_the_architecture_that_is_asked_for_is_that_of_the_encoder_that_is_chosen(
    project: Project, make_job: JobMaker
) -> None:
    make_job("pretrain", State.DONE, spec=from_preset("pretrain", "quick", encoder="attention26").model_dump())
    spec = _form(project, "segment", encoder="casser", decoder="fpn").spec().model_dump()
    assert (spec["encoder"], spec["decoder"]) == ("attention26", "fpn")


def test_what_a_model_was_made_with_counts_and_not_what_its_job_asked_for(
    project: Project, make_job: JobMaker, say: EventMaker
) -> None:
    encoder = make_job("pretrain", State.DONE)
    trained = make_job("segment", State.DONE, spec=from_preset("segment", "paper").model_dump())
    trained.inputs["encoder"] = {"job": encoder.pk, "artifact": "encoder"}
    trained.save()
    chosen = {"slot-encoder": "", "slot-segmenter": f"job-{trained.pk}-segmenter"}
    (field,) = [f for f in _form(project, "classify", **chosen).fields if f.info.name == "architecture"]
    assert field.taken == f"Taken from #{trained.pk} A segment job."
    keep(trained, say, b"weights", name="segmenter", media_type="", kind="segmenter", architecture="attention50")
    (field,) = [f for f in _form(project, "classify", **chosen).fields if f.info.name == "architecture"]
    assert field.taken.startswith("Self-attention ResNet-50 (stand-alone), taken from")


def test_a_field_without_effect_keeps_its_value_and_is_not_counted_as_changed(project: Project) -> None:
    form = _form(project, "segment", framing="resize", prediction_tile="64")
    shown = {field.info.name: field for field in form.fields}
    assert shown["prediction_tile"].value == "64"
    assert [field.info.name for field in form.differing] == ["framing"]
    spec = form.spec().model_dump()
    assert spec["prediction_tile"] == 64


def test_the_answer_to_each_change_says_what_has_no_effect(
    client: Client, project: Project, revision: Revision, make_job: JobMaker
) -> None:
    encoder = make_job("pretrain", State.DONE, name="byol-colour")
    sent = _sent(JobForm(project=project, kind="segment", preset="quick"), framing="crops")
    answer = html.unescape(client.post(f"/projects/{project.pk}/jobs/preflight/", sent).content.decode())
    idle = json.loads(re.search(r'data-fields="(.*)" hidden', answer)[1])  # type: ignore[index]
    assert idle["field-encoder"] == f"ResNet-18, taken from #{encoder.pk} byol-colour."
    assert idle["field-initial"] == ""
    assert "field-prediction_tile" not in idle
    sent = _sent(JobForm(project=project, kind="pretrain"), views="byol")
    answer = html.unescape(client.post(f"/projects/{project.pk}/jobs/preflight/", sent).content.decode())
    assert "field-slot-colour" in json.loads(re.search(r'data-fields="(.*)" hidden', answer)[1])  # type: ignore[index]


def test_nobody_is_asked_to_mend_a_field_that_has_no_effect(project: Project, revision: Revision) -> None:
    spec = _form(project, "segment", encoder="casser", decoder="fpn", patience="soon").spec().model_dump()
    assert (spec["encoder"], spec["decoder"], spec["decoder_width"], spec["patience"]) == ("casser", "unet", "full", 15)
    form = _form(project, "segment", encoder="casser", patience="soon", epochs="0")
    with pytest.raises(SpecError) as caught:
        form.spec()
    assert [refusal.field for refusal in caught.value.refusals] == ["epochs"]


def test_an_input_that_the_job_would_not_look_at_is_not_taken(
    project: Project, revision: Revision, make_job: JobMaker
) -> None:
    make_job("colorize", State.DONE)
    assert "colour" in _form(project, "pretrain").inputs()
    assert "colour" not in _form(project, "pretrain", views="byol").inputs()


def test_the_share_held_out_is_out_of_sight_where_the_dataset_names_its_validation_images(
    project: Project, revision: Revision
) -> None:
    assert "validation_share" not in _form(project, "segment").idle
    revision.summary["splits"] = {"train": 100, "validation": 65}
    revision.save()
    assert "validation_share" in _form(project, "segment").idle


def test_the_mask_layers_of_the_dataset_are_offered_and_another_is_refused_by_their_names(
    client: Client, project: Project, bob: User, revision: Revision
) -> None:
    _layers(revision, membranes=60, mitochondria=165)
    form = JobForm(project=project, kind="segment", preset="quick")
    (field,) = [field for field in form.fields if field.info.name == "mask_layer"]
    assert [value for value, _ in field.options] == ["", "membranes", "mitochondria"]
    for layer, sentence in (
        ("vesicles", "Lucchi has the mask layers membranes, mitochondria, and not vesicles."),
        ("", "Lucchi has the mask layers membranes, mitochondria: choose which to learn."),
    ):
        answer = client.post(_new(project), _sent(form, mask_layer=layer))
        page = html.unescape(answer.content.decode())
        assert answer.status_code == 422
        assert sentence in page[page.index('id="field-mask_layer"') :]
        assert 'href="#field-mask_layer"' in page
        preflight = client.post(f"/projects/{project.pk}/jobs/preflight/", _sent(form, mask_layer=layer))
        assert sentence in html.unescape(preflight.content.decode())
        spec = from_preset("segment", "quick", mask_layer=layer)
        with pytest.raises(SpecError, match="membranes, mitochondria"):
            job_submit(project=project, user=bob, spec=spec, inputs={"dataset": {"revision": revision.pk}})
    assert not Job.objects.exists()
    assert client.post(_new(project), _sent(form, mask_layer="membranes")).status_code == 302


def test_a_layer_that_stands_in_a_clone_and_not_in_the_dataset_is_kept_until_it_is_mended(
    project: Project, revision: Revision
) -> None:
    form = _form(project, "segment", mask_layer="vesicles")
    (field,) = [field for field in form.fields if field.info.name == "mask_layer"]
    assert [value for value, _ in field.options] == ["", "mitochondria", "vesicles"]


def test_the_class_of_a_map_is_one_of_those_that_the_network_knows(
    project: Project, make_job: JobMaker, say: EventMaker
) -> None:
    segmenter = make_job("segment", State.DONE)
    keep(segmenter, say, b"weights", name="segmenter", media_type="", kind="segmenter", classes=[0, 1, 38])
    (field,) = [field for field in JobForm(project=project, kind="cam").fields if field.info.name == "target"]
    assert field.options == [("", "what is predicted"), ("1", "1"), ("38", "38")]


def test_numbers_are_understood_as_people_write_them_or_asked_about(
    client: Client, project: Project, revision: Revision
) -> None:
    form = JobForm(project=project, kind="pretrain", preset="quick")
    sent = _sent(form, views="byol", epochs="1,000", learning_rate="0,0005")
    assert client.post(_new(project), sent).status_code == 302
    spec = Job.objects.get().spec
    assert (spec["epochs"], spec["learning_rate"]) == (1000, 0.0005)
    page = html.unescape(client.post(_new(project), sent | {"epochs": "1.000"}).content.decode())
    assert "1.000 can be read in two ways: write 1000 or 1." in page
    assert 'name="epochs" value="1.000"' in page


@pytest.mark.parametrize("kind", ["colorize", "pretrain", "segment", "classify", "cam", "train_colorizer"])
@pytest.mark.parametrize("nasty", ["", "many", "-1", "1e999", "nan", "9" * 5000, "0x10", "1,0,0", "<b>1</b>", "½"])
def test_a_bad_number_is_refused_at_its_field_with_its_own_sentence_and_kept(
    client: Client, project: Project, revision: Revision, kind: str, nasty: str
) -> None:
    form = JobForm(project=project, kind=kind)
    numbers = [field for field in form.fields if field.info.kind in ("integer", "number") and not field.idle]
    answer = client.post(_new(project), _sent(form, **{field.info.name: nasty for field in numbers}))
    page = html.unescape(answer.content.decode())
    assert answer.status_code == 422
    for field in numbers:
        own = page[page.index(f'id="field-{field.info.name}"') :]
        own = own[: own.find('<div class="field', 1)]
        assert field.info.refusal in own
        assert f'value="{nasty}"' in own
