"""Which items of a revision are meant: the filters of an address, as conditions of a query."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from webapp.datasets.models import NAME_WORDS, Item, Split

NO_SPLIT = "none"


NO_LABEL = "(none)"


WORD = re.compile(r"[a-z\x80-\U0010ffff]+|[0-9]+")
"""What a name, and what is searched in it, is cut into: letters together, digits together. See `NAME_WORDS`."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the address asks for; empty is no filter.

    `mask` is `paired`, `unpaired` or a layer's name, `size` (of pixels) `known` or `unknown`. An item has one of the
    labels of `label`. Each word of `name`, in this order, begins a part of the item's name, or is its number: "sli 12"
    finds slice_0012.png and slice_120.png.
    """

    split: str = ""
    mask: str = ""
    label: tuple[str, ...] = ()
    group: str = ""
    problem: str = ""
    size: str = ""
    name: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Sequence[object]]) -> Filters:
        """From lists of values, as `QueryDict.lists` has them; of what can be chosen once, the last one counts."""
        values = {name: [str(value) for value in given.get(name, ()) if value] for name in cls.names()}
        single = {name: found[-1] for name, found in values.items() if found and name != "label"}
        return cls(**single, label=tuple(sorted(set(values["label"]))))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)

    @property
    def chosen(self) -> dict[str, Any]:
        return {name: value for name in self.names() if (value := getattr(self, name))}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """As fields of a form: a name may come several times."""
        several = ((name, [value] if isinstance(value, str) else value) for name, value in self.chosen.items())
        return [(name, value) for name, values in several for value in values]

    @property
    def labels(self) -> list[str]:
        return ["" if label == NO_LABEL else label for label in self.label]

    def apply(self, items: QuerySet[Item]) -> QuerySet[Item]:
        if self.split:
            items = items.filter(split=self.splits[0])
        if self.label:
            items = items.filter(label__in=self.labels)
        return self.apply_rest(items)

    @property
    def splits(self) -> list[str]:
        """The split parts in which a match may be."""
        return [Split.NONE if self.split == NO_SPLIT else self.split] if self.split else [*Split.values]

    def apply_rest(self, items: QuerySet[Item]) -> QuerySet[Item]:
        """All filters but those of split and label, which an index answers together."""
        # The condition of the small partial index is repeated beside its own: PostgreSQL does not infer it.
        if self.mask == "unpaired":
            items = items.filter(masks={})
        elif self.mask:
            items = items.exclude(masks={})
            if self.mask != "paired":
                items = items.filter(masks__has_key=self.mask)
        if self.group:
            items = items.filter(group=self.group)
        if self.problem:
            items = items.exclude(problems=[]).filter(problems__contains=[{"kind": self.problem}])
        if self.size in ("known", "unknown"):
            items = items.filter(pixel_size_nm__isnull=self.size == "unknown")
        if words := WORD.findall(self.name.lower()):
            items = items.annotate(found=_named(words)).filter(found=True)
            if len(words) > 1:
                items = items.filter(name__iregex=in_order(words))
        return items


def _named(words: Sequence[str]) -> RawSQL:
    """Whether each word begins a part of the name, or is a number in it. The expression of `item_name_words`."""
    query = " & ".join(f"('{word}':* | '={_value(word)}')" if word.isdecimal() else f"'{word}':*" for word in words)
    return RawSQL(f"{NAME_WORDS} @@ %s::tsquery", [query], output_field=BooleanField())  # noqa: S611


def in_order(words: Sequence[str]) -> str:
    """A regular expression of PostgreSQL's that a name meets where its words come in this order."""
    parts = [
        f"(?<![0-9])({word}|0*{_value(word)}(?![0-9]))" if word.isdecimal() else f"(?<![a-z\x80-\U0010ffff]){word}"
        for word in words
    ]
    return ".*".join(parts)


def _value(digits: str) -> str:
    """ "12" of "0012" """
    return digits.lstrip("0") or "0"


def with_problem(items: QuerySet[Item], kind: str) -> QuerySet[Item]:
    """Through the index that holds items with a problem alone."""
    return items.exclude(problems=[]).filter(problems__contains=[{"kind": kind}])
