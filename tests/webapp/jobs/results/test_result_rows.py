"""What came out of a job, as its page says it."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client

from tests.webapp.artifacts import keep
from tests.webapp.conftest import EventMaker, JobMaker, Page
from tests.webapp.markup import markup_without_chance, words
from webapp.datasets.models import Item, Revision
from webapp.jobs.models import Job, State
from webapp.jobs.results.headline import headline
from webapp.projects.models import User
from webapp.template_tags import NOTHING


@pytest.fixture
def client(seen_by: Page, bob: User) -> Client:
    return seen_by(bob)


def _results(client: Client, job: Job) -> str:
    """The part of the page that holds the results, as text that a person reads."""
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    part = page[page.index('id="results"') : page.index('id="curves"')]
    return words(part)


SEGMENTED = {
    "foreground_iou": 0.84231,
    "foreground_iou_interval": [0.81, 0.87],
    "foreground_iou_per_image": 0.815,
    "foreground_iou_at_half": 0.8301,
    "background_iou": 0.976,
    "mean_iou": 0.91,
    "floor": 0.4712,
    "precision": None,
    "average_precision": 0.931,
    "threshold": 0.4375,
    "part": "test",
    "images": 1033,
    "groups": 8,
    "judged_epoch": 31,
    "judged_step": 1240,
    "best_epoch": 31,
    "best_step": 1240,
    "split": "By the dataset's own split.",
    "per_image": [{"name": "b", "foreground_iou": 0.9}, {"name": "worst", "foreground_iou": 0.1}],
}


def test_a_segmentation_is_one_table_in_which_nothing_stands_twice(client: Client, make_job: JobMaker) -> None:
    said = _results(client, make_job("segment", State.DONE, results={**SEGMENTED, "something_new": 3}))
    assert "Foreground IoU 0.842 [0.81, 0.87] 0.815" in said
    assert "Mean IoU predict nothing: 0.471 0.910" in said
    assert "Average precision 0.931" in said
    assert "Precision 0" not in said, "what was not measured has no row"
    assert "Something new 3" in said
    for figure in ("0.842", "0.815", "0.976", "0.910", "0.471", "0.931", "1,033"):
        assert said.count(figure) == 1, figure
    assert "None" not in said


def test_what_the_scores_rest_on_is_one_line(client: Client, make_job: JobMaker) -> None:
    said = _results(client, make_job("segment", State.DONE, results=SEGMENTED))
    assert (
        "Measured on the test split: 1,033 images · n = 8 stacks · threshold 0.44 "
        "(at 0.50 the foreground IoU is 0.830) "
        "· weights of epoch 31, step 1,240, the best on validation. By the dataset's own split."
    ) in said
    last = {key: value for key, value in SEGMENTED.items() if key != "foreground_iou_interval"}
    last |= {"judged_epoch": 40, "judged_step": 1600, "groups": 1, "images": 1, "threshold": 0.5}
    said = _results(client, make_job("segment", State.DONE, results=last))
    assert (
        "Measured on the test split: 1 image · n = 1 stack, no interval · threshold 0.50 · "
        "weights of epoch 40, step 1,600 · best on validation: epoch 31, step 1,240."
    ) in said


def test_several_classes_have_a_row_each_by_the_names_that_the_dataset_gives_them(
    client: Client, make_job: JobMaker, revision: Revision
) -> None:
    revision.dataset.classes = {"organelles": {"1": {"name": "mitochondrion"}}}
    revision.dataset.save()
    scores = {"dice": 0.7, "precision": None, "recall": 0.5}
    rows = [{"value": 1, "iou": 0.8, **scores}, {"value": 2, "iou": None, **scores}]
    results = {"foreground_iou": 0.8, "mean_iou": 0.9, "per_class": rows}
    said = _results(client, make_job("segment", State.DONE, results=results))
    assert "Foreground IoU, mean of 2 classes 0.800" in said
    assert "Mean IoU 0.900" in said
    assert f"mitochondrion 0.800 0.700 {NOTHING} 0.500 class 2 {NOTHING} 0.700" in said


def test_the_worst_images_are_seen_with_what_this_job_predicted(
    client: Client, make_job: JobMaker, revision: Revision, say: EventMaker
) -> None:
    facts = {"width": 8, "height": 8, "dtype": "uint8", "low": 0, "high": 255, "image": "0" * 64, "thumbnail": "0" * 64}
    item, other = Item.objects.bulk_create(
        Item(dataset=revision.dataset, added_in=1, position=n, name=f"slice_{n}.png", **facts) for n in range(2)
    )
    rows = [
        {"item": 0, "name": "slice_0.png", "foreground_iou": 0.9},
        {"item": 1, "name": "slice_1.png", "foreground_iou": 0.2},
        {"item": 2, "name": "gone.png", "foreground_iou": 0.1},
        {"item": 3, "name": "empty.png", "foreground_iou": None},
    ]
    job = make_job("segment", State.DONE, results={"foreground_iou": 0.8, "per_image": rows})
    keep(job, say, b"old", name="prediction.png", media_type="image/png", kind="prediction", item=1)
    newest = keep(job, say, b"new", name="prediction.png", media_type="image/png", kind="prediction", item=1)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    shown = page[page.index('class="thumbs"') :]
    assert re.findall(r'title="([^"]+)"', shown[: shown.index("</ul>")]) == ["gone.png", "slice_1.png", "slice_0.png"]
    assert f'href="/items/{other.pk}/?revision=1&amp;run={newest.pk}"' in shown
    assert f'href="/items/{item.pk}/?revision=1"' in shown, "of this one no prediction was kept"
    assert f'src="/items/{other.pk}/thumbnail.webp"' in shown


def test_the_curve_of_thresholds_is_there_while_its_table_is(
    client: Client, make_job: JobMaker, say: EventMaker
) -> None:
    job = make_job("segment", State.DONE, results=SEGMENTED)
    assert 'id="thresholds"' not in client.get(f"/jobs/{job.pk}/").content.decode()
    table = keep(job, say, b"threshold,", name="precision-recall.csv", media_type="text/csv", part="validation")
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert f'data-address="/artifacts/{table.pk}/precision-recall.csv" data-threshold="0.4375"' in page
    (settings.BLOBS / table.sha256[:2] / table.sha256).unlink()
    assert 'id="thresholds"' not in client.get(f"/jobs/{job.pk}/").content.decode()


def test_a_pretraining_says_what_is_healthy_and_a_map_what_its_check_means(client: Client, make_job: JobMaker) -> None:
    results = {"loss": 0.31, "embedding_std": 0.0813, "healthy_std": 0.0884, "images": 48, "steps": 90}
    said = _results(client, make_job("pretrain", State.DONE, results=results))
    assert "0.081 embedding spread healthy: 0.088" in said
    assert "48 images · 90 steps." in said
    assert said.count("0.081") == 1
    mapped = {"confidence_drop": 0.853, "random_correlation": -0.05, "images": 4, "method": "gradcam"}
    said = _results(client, make_job("cam", State.DONE, results=mapped))
    assert "with the brightest 20 % of the map hidden" in said
    assert "4 images · method Grad-CAM." in said


def test_how_many_images_were_coloured_is_said_once(client: Client, make_job: JobMaker) -> None:
    results = {"images": 4812, "size": 64, "origin": "structured"}
    said = _results(client, make_job("colorize", State.DONE, results=results))
    assert said.count("4,812") == 1
    assert "Colour planes of 64 px · colours: structured." in said


def test_a_colorizer_is_held_against_colours_without_looking(client: Client, make_job: JobMaker) -> None:
    results = {
        "cross_entropy": 3.21,
        "marginal_cross_entropy": 3.94,
        "ab_error": 12.5,
        "constant_ab_error": 14.0,
        "grey_ab_error": 18.0,
        "photographs": 30,
        "part": "validation",
        "best_step": 200,
        "best_epoch": 4,
    }
    said = _results(client, make_job("train_colorizer", State.DONE, results=results))
    assert "3.210 cross-entropy" in said
    assert "Measured on the validation split: 30 photographs" in said
    assert "the training colours' frequencies alone: 3.94" in said
    assert "one constant colour: 14 grey: 18" in said
    assert "weights of epoch 4, step 200, the best on validation" in said


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
    assert "never predicted" in results
    assert "no image" in results
    assert "worm &lt;b&gt;" in results
    assert "w1.png" in results
    for word in ("None", "nan", "True", "Shows nothing"):
        assert word not in markup_without_chance(results)


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
    assert (empty.status_code, "No image of the class a was predicted as b." in empty.content.decode()) == (200, True)
    keep(job, say, ANSWERS.encode(), name="predictions.csv", media_type="text/csv")
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
