"""Datasets, their immutable revisions, their items, and the uploads and blobs that they came from."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import RawSQL


class Blob(models.Model):
    """A file kept once under its SHA-256 in the default storage."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    size = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)


class Dataset(models.Model):
    class Kind(models.TextChoices):
        MICROGRAPHS = "micrographs", "micrographs"
        PHOTOGRAPHS = "photographs", "colour photographs"

    project = models.ForeignKey("projects.Project", models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    classes = models.JSONField(default=dict)
    """Mask layer -> {"value": {"name": str, "colour": "#rrggbb"}}."""
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.MICROGRAPHS)
    """Photographs teach a colorizer what colours things have; everything else learns from micrographs."""
    origin = models.ForeignKey("datasets.Revision", models.SET_NULL, null=True, related_name="subsets")
    """The revision a subset was taken from; the subset's first revision records the filters."""

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class Revision(models.Model):
    """What a dataset held at one time. Never changes; a job keeps the one that it ran on.

    `manifest` is the SHA-256 of the manifest (`ml_core.data.manifests.manifest`), itself a blob: the revision's true
    name.
    """

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    manifest = models.CharField(max_length=64)
    items_count = models.PositiveIntegerField()
    summary = models.JSONField(default=dict)
    """Counts to show without touching the items: per split, label, mask layer; pixel sizes; groups; problems."""
    change = models.CharField(max_length=300)
    """One sentence: what this revision changed."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["dataset", "number"], name="one_revision_per_number")]

    @property
    def short_name(self) -> str:
        return self.manifest[:4]

    @property
    def items(self) -> QuerySet[Item]:
        return Item.objects.filter(
            Q(removed_in=None) | Q(removed_in__gt=self.number), dataset_id=self.dataset_id, added_in__lte=self.number
        )


class Split(models.TextChoices):
    NONE = "", "no split"
    TRAIN = "train", "train"
    VALIDATION = "validation", "validation"
    TEST = "test", "test"


NAME_WORDS = (
    "array_to_tsvector(array_remove(string_to_array(regexp_replace(regexp_replace(regexp_replace(lower(name), "
    "'[\\x01-\\x2f\\x3a-\\x60\\x7b-\\x7f]+', ' ', 'g'), "
    "'([^0-9 ])(?=[0-9])|([0-9])(?=[^0-9 ])', '\\1\\2 ', 'g'), "
    "'(^| )(0*)([0-9]+)(?= |$)', '\\1\\2\\3 =\\3', 'g'), ' '), ''))"
)
"""A name cut into words: letters together, digits together, and beside the digits what they count, as =12 for 0012.
Searched by the beginnings of words and by numbers, so that an index finds them without an extension of PostgreSQL that
a server may not have. What is not ASCII is a letter, whatever the server's locale."""


class Item(models.Model):
    """One 2-D image: a file, or a slice of a stack. Belongs to the revisions from `added_in` until `removed_in`.

    A change makes a new row and closes the old one, so adding ten items to half a million writes ten rows.
    """

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="all_items")
    added_in = models.PositiveIntegerField()
    removed_in = models.PositiveIntegerField(null=True)
    position = models.BigIntegerField()
    """Natural order of names within the dataset; the key of the grid's pages."""
    name = models.CharField(max_length=400)
    image = models.CharField(max_length=64)
    """SHA-256 of the blob that holds the pixels."""
    page = models.PositiveIntegerField(default=0)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    dtype = models.CharField(max_length=10)
    low = models.FloatField()
    high = models.FloatField()
    """Window, in source units, that is shown as black to white and trained on as 0 to 255."""
    thumbnail = models.CharField(max_length=64)
    masks = models.JSONField(default=dict)
    """Layer -> {"sha256": str, "page": int, "name": str, "rule": str, "values": {value: pixel count}}."""
    label = models.CharField(max_length=200, blank=True)
    group = models.CharField(max_length=400, blank=True)
    """Stack, volume or animal; stays on one side of a split."""
    index = models.PositiveIntegerField(default=0)
    """Place within the group."""
    pixel_size_nm = models.FloatField(null=True)
    split = models.CharField(max_length=10, choices=Split.choices, blank=True)
    problems = models.JSONField(default=list)
    facts = models.JSONField(default=dict)

    class Meta:
        ordering = ["position", "id"]
        indexes = [
            models.Index(fields=["dataset", "position", "id"]),
            models.Index(fields=["dataset", "split", "position", "id"], name="item_split"),
            models.Index(fields=["dataset", "label", "split", "position", "id"], name="item_label_split"),
            models.Index(fields=["dataset", "group", "index"]),
            models.Index(fields=["dataset", "position", "id"], name="item_masked", condition=~Q(masks={})),
            models.Index(
                fields=["dataset", "label", "split", "position", "id"],
                name="item_masked_label",
                condition=~Q(masks={}),
            ),
            models.Index(fields=["dataset", "position", "id"], name="item_unmasked", condition=Q(masks={})),
            models.Index(fields=["dataset", "position", "id"], name="item_problem", condition=~Q(problems=[])),
            models.Index(
                fields=["dataset", "position", "id"], name="item_unsized", condition=Q(pixel_size_nm__isnull=True)
            ),
            GinIndex(
                RawSQL(NAME_WORDS, [], output_field=SearchVectorField()),  # noqa: S611  # a constant of ours
                name="item_name_words",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(removed_in=None) | Q(removed_in__gt=F("added_in")), name="removed_after_added"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Upload(models.Model):
    """One file on its way in, in pieces. `offset` is the truth about how much of it has arrived."""

    class State(models.TextChoices):
        RECEIVING = "receiving"
        READING = "reading"
        DONE = "done"
        FAILED = "failed"
        ABANDONED = "abandoned"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="uploads")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    filename = models.CharField(max_length=400)
    length = models.BigIntegerField()
    offset = models.BigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RECEIVING)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    job = models.OneToOneField("jobs.Job", models.SET_NULL, null=True, related_name="upload")
    report = models.JSONField(default=dict)
    """{"added": int, "refused": [{"name", "reason", "remedy"}], "paired": {rule: int}, "unpaired": [names], "counts"}:
    of each list the first few hundred, and how many there are (`left_out`)."""


def file_of(name: str, facts: Mapping[str, Any]) -> str:
    """The file that an item is a page of."""
    return str(facts.get("file", name))
