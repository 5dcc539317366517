"""The page of a job, and what it fetches."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from ml_core.specs import from_preset
from tests.webapp.pages.conftest import EventMaker, JobMaker, Page
from webapp.datasets.models import Item, Revision
from webapp.jobs.figures import headline
from webapp.jobs.models import Artifact, Job, State
from webapp.projects.models import User


@pytest.fixture
def client(seen_by: Page, bob: User) -> Client:
    return seen_by(bob)


@pytest.mark.parametrize("state", State)
def test_the_page_stands_in_every_state_and_offers_what_may_be_done(
    client: Client, make_job: JobMaker, state: State
) -> None:
    job = make_job("pretrain", state, reason="Because of a reason.")
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert f'class="chip {state}"' in page
    assert "Because of a reason." in page
    offered = {
        "pause": state in ("waiting", "queued", "running"),
        "resume": state == "paused",
        "retry": state in ("failed", "cancelled"),
        "extend": state == "done",
        "cancel": state not in ("done", "failed", "cancelled"),
    }
    for action, wanted in offered.items():
        assert (f'action="/jobs/{job.pk}/{action}/"' in page) is wanted, action
    assert f"?clone={job.pk}" in page
    for word in ("None", "nan", "NaN", "null<", "0 of 0"):
        assert word not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_a_failure_says_its_sentence_and_what_is_kept(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.FAILED, reason="The loss is not finite at step 812.", checkpoint_step=800)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "The loss is not finite at step 812. The checkpoint of step 800 is kept." in page
    assert '<details id="log-details" open>' in page


def test_results_stand_with_floor_healthy_value_and_small_number_of_stacks(client: Client, make_job: JobMaker) -> None:
    results = {
        "foreground_iou": 0.84231,
        "mean_iou": 0.91,
        "floor": 0.4712,
        "groups": 1,
        "images": 1033,
        "per_image": [{"name": "b", "foreground_iou": 0.9}, {"name": "worst", "foreground_iou": 0.1}],
        "precision": None,
        "something_new": 3,
    }
    job = make_job("segment", State.DONE, results=results)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    for words in ("0.842", "predict nothing: 0.471", "too few for an interval", "1,033", "Something new"):
        assert words in page
    assert page.index("worst") < page.index("0.900")
    assert "<dt>Precision</dt><dd>0" not in page
    assert "None" not in page[page.index('id="results"') : page.index('id="curves"')]


def test_the_record_shows_every_field_and_how_it_differs_from_its_preset(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.DONE, record={"torch": "2.15.0", "threads": 2})
    job.spec["epochs"] = 21
    job.save()
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "21 passes over the images" in html.unescape(page)
    assert f"quick: {from_preset('pretrain', 'quick').epochs}" in page  # type: ignore[attr-defined]
    assert "2.15.0" in page


def test_an_old_specification_that_no_longer_loads_is_shown_as_it_was(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.DONE, spec={"kind": "pretrain", "version": 1, "forgotten_field": "as it was"})
    assert "as it was" in client.get(f"/jobs/{job.pk}/").content.decode()


def test_an_action_that_comes_too_late_says_so_and_changes_nothing(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.DONE)
    answer = client.post(f"/jobs/{job.pk}/pause/", follow=True)
    assert "The job is done by now, so there was nothing to pause." in answer.content.decode()
    job.refresh_from_db()
    assert job.state == State.DONE


def test_cancel_pause_and_resume_reach_the_queue(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.QUEUED)
    for action, state in (("pause", State.PAUSED), ("resume", State.QUEUED), ("cancel", State.CANCELLED)):
        assert client.post(f"/jobs/{job.pk}/{action}/").headers["Location"] == f"/jobs/{job.pk}/"
        job.refresh_from_db()
        assert job.state == state


def test_extend_makes_a_job_of_its_own_and_refuses_nonsense(client: Client, make_job: JobMaker) -> None:
    spec = from_preset("pretrain", "quick", views="byol").model_dump(mode="json")  # needs no colours
    job = make_job("pretrain", State.DONE, spec=spec)
    answer = client.post(f"/jobs/{job.pk}/extend/", {"epochs": "5"})
    made = Job.objects.get(extends=job)
    assert answer.headers["Location"] == f"/jobs/{made.pk}/"
    assert made.spec["epochs"] == job.spec["epochs"] + 5
    for nonsense in ("many", "0", ""):
        answer = client.post(f"/jobs/{job.pk}/extend/", {"epochs": nonsense}, follow=True)
        assert "Say by how many epochs" in answer.content.decode()
    assert Job.objects.filter(extends=job).count() == 1


def test_an_unknown_action_is_not_found_and_a_get_changes_nothing(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.QUEUED)
    assert client.post(f"/jobs/{job.pk}/explode/").status_code == 404
    assert client.get(f"/jobs/{job.pk}/cancel/").status_code == 405
    job.refresh_from_db()
    assert job.state == State.QUEUED


def test_events_come_in_pages_of_two_thousand_in_order(
    client: Client, make_job: JobMaker, say: EventMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("pretrain", State.RUNNING)
    ids = [say(job, "point", name="loss/train", step=n, value=1 / n).pk for n in range(1, 6)]
    monkeypatch.setattr("webapp.jobs.answers.EVENTS_AT_ONCE", 3)
    first = client.get(f"/jobs/{job.pk}/events.json").json()
    assert [e["id"] for e in first["events"]] == ids[:3]
    assert first["more"] is True
    assert first["job"]["id"] == job.pk
    rest = client.get(f"/jobs/{job.pk}/events.json?after={first['cursor']}").json()
    assert [e["id"] for e in rest["events"]] == ids[3:]
    assert rest["more"] is False
    assert client.get(f"/jobs/{job.pk}/events.json?after={rest['cursor']}").json()["events"] == []
    assert client.get(f"/jobs/{job.pk}/events.json?after=nonsense").status_code == 200


def test_the_csv_has_each_step_once_by_its_newest_attempt_and_exactly(
    client: Client, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("pretrain", State.DONE, record={"steps_per_epoch": 4, "total_steps": 8})
    say(job, "point", name="loss/train", step=2, value=0.1 + 0.2, low=0.1, high=0.5)
    say(job, "point", name="loss/train", step=4, value=9.0)
    say(job, "point", name="loss/train", step=4, value=8.0, epoch=2)
    say(job, "point", name="loss/train", step=6, value=None, data={"reason": "nan"}, epoch=2)
    answer = client.get(f"/jobs/{job.pk}/points.csv")
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["step"], r["value"], r["attempt"], r["epoch"]) for r in rows] == [
        ("2", repr(0.1 + 0.2), "1", "0.5000"),
        ("4", "8.0", "2", "1.0000"),
        ("6", "nan", "2", "1.5000"),
    ]


def test_the_log_comes_from_the_newest_attempt_or_from_the_row(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING, log_tail="kept in the row")
    assert client.get(f"/jobs/{job.pk}/log.txt").content == b"kept in the row"
    folder = Path(settings.JOBS) / f"job-{job.pk}" / "epoch-1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"one\ntwo \xff\nthree\n")
    answer = client.get(f"/jobs/{job.pk}/log.txt?lines=2")
    assert answer.content.decode() == "two \N{REPLACEMENT CHARACTER}\nthree"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def _keep(job: Job, say: EventMaker, content: bytes, *, name: str, media_type: str) -> Artifact:
    sha256 = hashlib.sha256(content).hexdigest()
    path = Path(settings.BLOBS) / sha256[:2] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    event = say(job, "artifact", data={"artifact": "table", "name": name})
    return Artifact.objects.create(
        job=job, event=event, kind="table", name=name, sha256=sha256, size=len(content), media_type=media_type, epoch=1
    )


def test_only_pictures_are_shown_in_place_and_nothing_runs(client: Client, make_job: JobMaker, say: EventMaker) -> None:
    job = make_job("segment", State.DONE)
    picture = _keep(job, say, b"\x89PNG", name="sample.png", media_type="image/png")
    answer = client.get(f"/artifacts/{picture.pk}/sample.png")
    assert b"".join(answer.streaming_content) == b"\x89PNG"  # type: ignore[attr-defined]
    assert answer.headers["Content-Disposition"].startswith("inline")
    for media_type in ("text/html", "image/svg+xml", "text/csv"):
        file = _keep(job, say, b"<script>alert(1)</script>", name='a"<b>.html', media_type=media_type)
        answer = client.get(f"/artifacts/{file.pk}/x")
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "<" not in answer.headers["Content-Disposition"]


def test_a_picture_that_the_browser_has_is_not_sent_again_and_a_stranger_gets_none(
    client: Client, seen_by: Page, charlie: User, make_job: JobMaker, say: EventMaker
) -> None:
    picture = _keep(make_job(), say, b"\x89PNG", name="a.png", media_type="image/png")
    path = f"/artifacts/{picture.pk}/a.png"
    tag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert seen_by(charlie).get(path, headers={"If-None-Match": tag}).status_code == 404
    for suffix in ("events.json", "points.csv", "log.txt"):
        assert seen_by(charlie).get(f"/jobs/{picture.job_id}/{suffix}").status_code == 404


def test_the_page_hands_its_script_data_that_cannot_break_out(client: Client, make_job: JobMaker) -> None:
    job = make_job("pretrain", State.RUNNING, name="</script><script>alert(1)</script>")
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "<script>alert" not in page
    block = re.search(r'<script id="page" type="application/json">(.*?)</script>', page, re.S)
    assert block
    data = json.loads(block[1])
    assert data["id"] == job.pk
    (reference,) = data["references"]
    assert reference["value"] == pytest.approx(128**-0.5)
    assert reference["label"] == "healthy, 1/√128"


CLASSIFIED = {
    "accuracy": 0.8,
    "accuracy_interval": [0.71, 0.88],
    "chance": 0.5,
    "grey_accuracy": 0.79,
    "beyond_grey": 0.01,
    "shows_nothing": True,
    "verdict": "Grey values alone do as well, so this task shows nothing about the encoder.",
    "images": 1210,
    "per_class": [
        {"label": "c. elegans", "precision": None, "recall": 0.0, "support": 10},
        {"label": "mouse", "precision": 0.75, "recall": 1.0, "support": 1200},
        {"label": "worm <b>", "precision": 0.0, "recall": None, "support": 0},
    ],
    "confusion": {"labels": ["c. elegans", "mouse", "worm <b>"], "counts": [[0, 9, 1], [0, 1200, 0], [0, 0, 0]]},
    "mistakes": [{"name": "w1.png", "label": "c. elegans", "predicted": "mouse", "confidence": 0.97}],
}


def test_a_classification_shows_its_confusion_its_classes_and_what_it_does_not_show(
    client: Client, make_job: JobMaker
) -> None:
    job = make_job("classify", State.DONE, results=CLASSIFIED)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    results = page[page.index('id="results"') : page.index('id="curves"')]
    assert "shows nothing about the encoder" in results
    matrix = results[results.index('class="confusion"') :]
    matrix = matrix[: matrix.index("</table>")]
    cells = re.findall(
        r'heat-(\d)( right)?">(?:<a [^>]+>)?<span class="count">([\d,]+)</span> <span class="share">([^<]+)<', matrix
    )
    assert [found[1:] for found in cells] == [
        *((" right", "0", "0 %"), ("", "9", "90 %"), ("", "1", "10 %")),
        *(("", "0", "0 %"), (" right", "1,200", "100 %"), ("", "0", "0 %")),
        *(("", "0", "no image"), ("", "0", "no image"), (" right", "0", "no image")),
    ]
    assert [found[0] for found in cells] == ["1", "5", "2", "1", "5", "1", "1", "1", "1"]
    edge = [int(text.replace(",", "")) for text in re.findall(r'<td class="figure"><a [^>]+>([\d,]+)</a></td>', matrix)]
    assert f'href="/jobs/{job.pk}/images/?label=c.%20elegans&amp;predicted=mouse"' in matrix
    assert "predicted=worm%20%3Cb%3E" in matrix
    assert edge == [10, 1200, 0, 0, 1209, 1, 1210], "totals of the rows, of the columns, and of all"
    assert "never answered" in results
    assert "no image" in results
    assert "worm &lt;b&gt;" in results
    assert "w1.png" in results
    for words in ("None", "nan", "True", "Shows nothing"):
        assert words not in results


ANSWERS = """item,name,part,label,predicted,confidence,p(a),p(b)
0,slice_0.png,train,a,b,0.9,0.1,0.9
1,slice_1.png,test,a,b,0.6,0.4,0.6
2,slice_2.png,test,a,b,0.8,0.2,0.8
3,gone.png,test,a,b,0.7,0.3,0.7
4,slice_3.png,test,b,b,0.9,0.1,0.9
"""


def test_a_cell_of_a_confusion_opens_its_images(
    client: Client, make_job: JobMaker, revision: Revision, say: EventMaker
) -> None:
    job = make_job("classify", State.DONE, results={**CLASSIFIED, "part": "test"})
    empty = client.get(f"/jobs/{job.pk}/images/?label=a&predicted=b")
    assert (empty.status_code, "No image of the class a was taken for b." in empty.content.decode()) == (200, True)
    _keep(job, say, ANSWERS.encode(), name="predictions.csv", media_type="text/csv")
    facts = {"width": 8, "height": 8, "dtype": "uint8", "low": 0, "high": 255, "image": "0" * 64, "thumbnail": "0" * 64}
    Item.objects.bulk_create(
        Item(dataset=revision.dataset, added_in=1, position=n, name=f"slice_{n}.png", **facts) for n in range(4)
    )
    named = {item.name: item.pk for item in revision.items}
    page = client.get(f"/jobs/{job.pk}/images/?label=a&predicted=b").content.decode()
    assert "3 images of the test part" in page
    shown = re.findall(r'href="/items/(\d+)/\?revision=1"', page)
    assert shown == [str(named["slice_2.png"]), str(named["slice_1.png"])], "the surest first, and none of training"
    assert "gone.png" in page
    whole_row = client.get(f"/jobs/{job.pk}/images/?predicted=b").content.decode()
    assert "4 images of the test part" in whole_row


def test_a_segmentation_has_no_confusion_of_classes(client: Client, make_job: JobMaker) -> None:
    results = {"foreground_iou": 0.8, "per_class": [{"value": 1, "iou": 0.8}]}
    page = client.get(f"/jobs/{make_job('segment', State.DONE, results=results).pk}/").content.decode()
    assert "Confusion" not in page
    assert "By class" not in page


def test_the_accuracy_stands_for_a_classification_in_lists(make_job: JobMaker) -> None:
    figure = headline(make_job("classify", State.DONE, results=CLASSIFIED))
    assert figure is not None
    assert (figure.name, figure.text, figure.interval) == ("accuracy", "0.800", "[0.71, 0.88]")
