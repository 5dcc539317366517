"""The form of a new job: drawn from the specification, refused at the field, weighed before it runs."""

from __future__ import annotations

import html
import re

import pytest
from django.test import Client

from ml_core.specs import fields_of, from_preset, presets_of
from tests.webapp.conftest import JobMaker, Page
from webapp.datasets.models import Dataset, Revision
from webapp.jobs.forms.job_form import KINDS, JobForm
from webapp.jobs.models import Job, State
from webapp.projects.models import Project, User


@pytest.fixture
def client(seen_by: Page, bob: User, revision: Revision) -> Client:
    """Bob, who may edit."""
    return seen_by(bob)


def _new(project: Project, query: str = "") -> str:
    return f"/projects/{project.pk}/jobs/new/{query}"


def _fields(form: JobForm) -> dict[str, str]:
    """What a browser would send of the form as it is shown."""
    sent = {field.info.name: field.value for field in form.fields}
    sent |= {slot.name: slot.value for slot in form.slots}
    return {**sent, "kind": form.kind, "preset": form.preset, "name": "", "after": ""}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_specification_stands_in_the_form(client: Client, project: Project, kind: str) -> None:
    page = html.unescape(client.get(_new(project, f"?kind={kind}")).content.decode())
    for field in fields_of(kind):
        assert f'name="{field.name}"' in page
        assert field.label in page
        assert field.help in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_preset_of_every_kind_can_be_submitted_as_it_stands(
    client: Client, project: Project, make_job: JobMaker, kind: str
) -> None:
    make_job("colorize", State.DONE)
    make_job("pretrain", State.DONE)
    make_job("segment", State.DONE)
    for preset in presets_of(kind):
        sent = _fields(JobForm(project=project, kind=kind, preset=preset))
        answer = client.post(_new(project), sent)
        assert answer.status_code == 302, answer.content.decode()
        job = Job.objects.latest("pk")
        assert answer.headers["Location"] == f"/jobs/{job.pk}/"
        said = {"segment": {"encoder": "resnet18"}, "classify": {"architecture": "resnet18"}}.get(kind, {})
        assert job.spec == from_preset(kind, preset).model_dump(mode="json") | said, (
            "what the encoder says, and the preset"
        )


def test_a_bad_value_is_refused_at_its_field_with_the_sentence_of_the_specification(
    client: Client, project: Project
) -> None:
    sent = _fields(JobForm(project=project, kind="pretrain")) | {"epochs": "many", "image_size": "33", "seed": "-1"}
    answer = client.post(_new(project), sent)
    page = html.unescape(answer.content.decode())
    assert answer.status_code == 422
    assert not Job.objects.exists()
    for name in ("epochs", "image_size", "seed"):
        sentence = next(f.refusal for f in fields_of("pretrain") if f.name == name)
        field = page[page.index(f'id="field-{name}"') :]
        assert sentence in field[: field.index("</div>\n") + 2000]
        assert f'href="#field-{name}"' in page
        assert f'value="{sent[name]}"' in field  # what was entered is kept
    assert "<details open" in page  # the seed is an advanced field


def test_the_queue_refuses_a_missing_dataset_at_its_picker(client: Client, project: Project) -> None:
    sent = _fields(JobForm(project=project, kind="segment")) | {"slot-dataset": ""}
    answer = client.post(_new(project), sent)
    assert answer.status_code == 422
    assert 'href="#field-slot-dataset"' in answer.content.decode()


def test_an_input_of_another_project_cannot_be_named(client: Client, project: Project, bob: User) -> None:
    other = Project.objects.create(name="Other")
    foreign = Revision.objects.create(
        dataset=Dataset.objects.create(project=other, name="Theirs"),
        number=1,
        manifest="f" * 64,
        items_count=3,
        change="3",
    )
    sent = _fields(JobForm(project=project, kind="segment")) | {"slot-dataset": f"revision-{foreign.pk}"}
    assert client.post(_new(project), sent).status_code == 422
    assert "Theirs" not in client.get(_new(project)).content.decode()


def test_the_form_chooses_the_newest_encoder_and_the_colour_of_the_same_revision(
    project: Project, make_job: JobMaker, dataset: Dataset, revision: Revision
) -> None:
    encoder = make_job("pretrain", State.DONE)
    make_job("pretrain", State.FAILED)
    paused = make_job("pretrain", State.PAUSED)
    form = JobForm(project=project, kind="segment")
    assert form.inputs()["encoder"] == {"job": encoder.pk, "artifact": "encoder"}
    offered = {o.value for slot in form.slots if slot.slot.name == "encoder" for o in slot.options}
    assert offered == {f"job-{encoder.pk}-encoder", f"job-{paused.pk}-encoder"}

    colour = make_job("colorize", State.DONE)
    assert JobForm(project=project, kind="pretrain").inputs()["colour"]["job"] == colour.pk
    newer = Revision.objects.create(dataset=dataset, number=2, manifest="b" * 64, items_count=170, change="5 added.")
    form = JobForm(project=project, kind="pretrain")
    assert form.inputs()["dataset"] == {"revision": newer.pk}
    assert "colour" not in form.inputs()


def test_a_clone_brings_the_fields_and_inputs_of_the_original(
    client: Client, project: Project, make_job: JobMaker
) -> None:
    colour = make_job("colorize", State.DONE)
    spec = from_preset("pretrain", "paper", epochs=7, learning_rate=0.00012).model_dump(mode="json")
    original = make_job("pretrain", State.DONE, spec=spec)
    original.inputs["colour"] = {"job": colour.pk, "artifact": "colour"}
    original.save()
    page = client.get(_new(project, f"?clone={original.pk}")).content.decode()
    assert re.search(r'name="epochs" value="7"', page)
    assert re.search(r'name="learning_rate" value="0.00012"', page)
    assert f'value="job-{colour.pk}-colour" data-revision="{original.inputs["dataset"]["revision"]}" selected' in page
    assert "2 fields differ from paper" in page


def test_a_clone_of_a_job_that_one_may_not_see_is_not_found(
    client: Client, project: Project, make_job: JobMaker
) -> None:
    foreign = make_job("segment", project=Project.objects.create(name="Other"))
    assert client.get(_new(project, f"?clone={foreign.pk}")).status_code == 404


def test_preflight_counts_the_queue_judges_by_a_run_like_it_and_warns(
    client: Client, project: Project, make_job: JobMaker
) -> None:
    quick = from_preset("segment", "quick").model_dump(mode="json")
    like_it = make_job("segment", State.DONE, spec=quick)
    make_job("pretrain", State.QUEUED)
    form = JobForm(project=project, kind="segment", preset="quick")
    sent = _fields(form) | {"epochs": str(2 * quick["epochs"]), "validation": "random", "slot-encoder": ""}
    page = client.post(f"/projects/{project.pk}/jobs/preflight/", sent).content.decode()
    assert "1 job ahead" in page
    assert re.search(rf"about 4 min, estimated from\s+<a[^>]*>#{like_it.pk}</a>", page)  # 2 min at half the epochs
    assert "neighbouring slices" in page
    page = client.post(f"/projects/{project.pk}/jobs/preflight/", sent | {"epochs": "0"}).content.decode()
    assert "Epochs: 1 to 10,000 epochs." in page


def test_preflight_says_that_time_is_not_known_rather_than_guess(client: Client, project: Project) -> None:
    page = client.post(
        f"/projects/{project.pk}/jobs/preflight/", _fields(JobForm(project=project, kind="pretrain"))
    ).content.decode()
    assert "not known: no similar job has finished here" in page
    assert "Colorize first." in page


def test_a_job_can_be_told_to_wait_for_another(client: Client, project: Project, make_job: JobMaker) -> None:
    before = make_job("pretrain", State.RUNNING)
    sent = _fields(JobForm(project=project, kind="colorize")) | {"after": str(before.pk), "name": "Later"}
    client.post(_new(project), sent)
    job = Job.objects.get(name="Later")
    assert list(job.after.all()) == [before]
    assert job.state == State.WAITING


def test_what_no_browser_would_send_is_answered_without_a_server_error(client: Client, project: Project) -> None:
    sent = _fields(JobForm(project=project, kind="colorize"))
    assert client.post(_new(project), sent | {"after": "x"}).status_code == 404
    assert client.post(_new(project), sent | {"after": "9" * 40}).status_code == 404
    assert client.post(_new(project), {"kind": "nothing", "preset": "\0"}).status_code in (302, 422)
    assert client.post(_new(project), sent | {"name": "a\0b"}).status_code == 302
    assert Job.objects.latest("pk").name == "ab"
    assert client.get("/search/?q=%00").status_code == 200
    assert client.get(f"/projects/{project.pk}/?before={'9' * 40}&state=%00").status_code == 200
    assert client.get(_new(project, f"?clone={'9' * 40}")).status_code == 404
    assert client.get(_new(project, f"?dataset={'9' * 40}")).status_code == 200
