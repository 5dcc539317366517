"""Changes to datasets, each as a new revision, and exports of revisions: the actions of a dataset's page.

Every change names the revision that the script has read (`base`): if the dataset has a newer one, nothing is changed
and the response is 409 with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict, model_validator

from webapp.api.auth import asker
from webapp.api.datasets import RevisionOut
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset, Revision
from webapp.datasets.queries.filters import Filters
from webapp.datasets.revisions import dataset_edits, draft, item_edits, zip_export
from webapp.datasets.revisions.draft import Selection
from webapp.datasets.revisions.split_plan import SplitRequest, split_plan
from webapp.projects.access import get_editable, get_visible

router = Router(tags=["datasets"])


class _Strict(Schema):
    """A name that is not known is refused: a filter that is misspelt would choose everything."""

    model_config = ConfigDict(extra="forbid")


class FiltersIn(_Strict):
    """As the dataset's page has them. None of them: every item."""

    split: str = ""
    mask: str = ""
    label: list[str] = Field(default_factory=list)
    group: str = ""
    problem: str = ""
    size: str = ""
    name: str = ""


class BaseIn(_Strict):
    base: int = Field(description="Number of the revision that the script read; it must still be the newest.")


class ChosenIn(BaseIn):
    """Items by their ids, at most 10,000 of them, or all that match the filters; not both."""

    items: list[int] | None = Field(None, max_length=draft.MOST_CHOSEN)
    filters: FiltersIn | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> ChosenIn:
        if (self.items is None) == (self.filters is None):
            raise ValueError("Choose the items either by `items` or by `filters`.")
        return self

    @property
    def selection(self) -> Selection:
        if self.filters is None:
            return Selection(ids=self.items or [])
        given = self.filters.dict()
        return Selection(
            filters=Filters.of({name: [value] if isinstance(value, str) else value for name, value in given.items()})
        )


class LabelIn(ChosenIn):
    label: str = Field(description="Empty removes the label.")


class SideIn(ChosenIn):
    split: Literal["train", "validation", "test", ""] = Field(description="Empty removes the items from the split.")


class PixelSizeIn(ChosenIn):
    pixel_size_nm: float | None


class SplitIn(BaseIn):
    rule: Literal["shares", "folders"] = "shares"
    validation: float = 0.15
    test: float = 0.15
    seed: int = Field(0, ge=0)


class RefusedOut(Schema):
    sentence: str


class PlanOut(Schema):
    """How many images each side would get, those of no side under "", and by which rule."""

    sentence: str
    sides: dict[str, int]
    moved: int


MADE: dict[Any, Any] = {201: RevisionOut, 409: RefusedOut}


@router.post("/{dataset_id}/items/label", response=MADE)
def label_items(request: HttpRequest, dataset_id: int, wanted: LabelIn) -> object:
    """Gives the chosen items a label."""
    return _changed(request, dataset_id, item_edits.items_label, wanted, selection=wanted.selection, label=wanted.label)


@router.post("/{dataset_id}/items/split", response=MADE)
def split_items(request: HttpRequest, dataset_id: int, wanted: SideIn) -> object:
    """Puts the chosen items on one side of the split."""
    return _changed(request, dataset_id, item_edits.items_split, wanted, selection=wanted.selection, split=wanted.split)


@router.post("/{dataset_id}/items/pixel-size", response=MADE)
def measure_items(request: HttpRequest, dataset_id: int, wanted: PixelSizeIn) -> object:
    """Says how large the pixels of the chosen items are, in nm; null where it is not known."""
    size = wanted.pixel_size_nm
    return _changed(
        request, dataset_id, item_edits.items_measure, wanted, selection=wanted.selection, pixel_size_nm=size
    )


@router.post("/{dataset_id}/items/invert", response=MADE)
def invert_items(request: HttpRequest, dataset_id: int, wanted: ChosenIn) -> object:
    """Turns dark to bright in the chosen items; the stored pixels stay as they are."""
    return _changed(request, dataset_id, item_edits.items_invert, wanted, selection=wanted.selection)


@router.post("/{dataset_id}/items/remove", response=MADE)
def remove_items(request: HttpRequest, dataset_id: int, wanted: ChosenIn) -> object:
    """Leaves the chosen items out from the new revision on; earlier revisions keep them."""
    return _changed(request, dataset_id, item_edits.items_remove, wanted, selection=wanted.selection)


@router.post("/{dataset_id}/split", response=MADE)
def split_dataset(request: HttpRequest, dataset_id: int, wanted: SplitIn) -> object:
    """Splits all items anew: by shares, groups on one side and a lone stack in blocks, or by folders."""

    def change(dataset: Dataset, **given: Any) -> Revision:
        return dataset_edits.dataset_split(dataset, **given)[0]

    return _changed(request, dataset_id, change, wanted, **wanted.dict(exclude={"base"}))


@router.get("/{dataset_id}/split", response={200: PlanOut, 409: RefusedOut})
def plan_split(
    request: HttpRequest,
    dataset_id: int,
    rule: str = "shares",
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> object:
    """What splitting all items anew would give. Changes nothing."""
    dataset = get_visible(Dataset.objects.all(), asker(request), pk=dataset_id)
    items = dataset.all_items.filter(removed_in=None)
    try:
        plan = split_plan(items, SplitRequest(rule=rule, validation=validation, test=test, seed=max(0, seed)))
    except EditRefused as refused:
        return Status(409, {"sentence": str(refused)})
    sides = {side.name: side.images for side in plan.sides}
    return Status(200, {"sentence": plan.sentence, "sides": sides, "moved": plan.moved})


@router.post("/revisions/{revision_id}/restore", response=MADE)
def restore_revision(request: HttpRequest, revision_id: int, wanted: BaseIn) -> object:
    """Makes a new revision that holds what this one held."""
    user = asker(request)
    revisions = Revision.objects.select_related("dataset__project")
    revision = get_editable(revisions, user, project="dataset__project", pk=revision_id)
    return _made(lambda: dataset_edits.revision_restore(revision, base=wanted.base, user=user))


@router.get("/revisions/{revision_id}/export", response={200: None})
def export_revision(request: HttpRequest, revision_id: int) -> StreamingHttpResponse:
    """The revision as a zip of every file and its manifest; uploaded to a dataset, it comes back as it was."""
    revisions = Revision.objects.select_related("dataset")
    return zip_export.answer(
        request, get_visible(revisions, asker(request), project="dataset__project", pk=revision_id)
    )


def _changed(
    request: HttpRequest, dataset_id: int, change: Callable[..., Revision], wanted: BaseIn, **given: Any
) -> object:
    user = asker(request)
    dataset = get_editable(Dataset.objects.select_related("project"), user, pk=dataset_id)
    return _made(lambda: change(dataset, base=wanted.base, user=user, **given))


def _made(change: Callable[[], Revision]) -> object:
    try:
        return Status(201, change())
    except EditRefused as refused:
        return Status(409, {"sentence": str(refused)})
