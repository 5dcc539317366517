"""The page of masks: what paired by which rule, what waits, and that a wrong pair can be mended by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.webapp.datasets.intake.test_commit import mask, picture
from tests.webapp.datasets.pages.test_dataset_page import Seen, seen_by
from tests.webapp.datasets.revisions.test_mask_edits import Bring, bring, dataset, drawn, item, newest, pixels, press
from webapp.datasets.exceptions import EditRefused
from webapp.datasets.models import Dataset
from webapp.datasets.queries import mask_counts
from webapp.datasets.queries.unpaired_masks import waiting_page
from webapp.datasets.revisions import dataset_edits, mask_edits
from webapp.projects.models import User

__all__ = ["bring", "dataset", "seen_by"]

pytestmark = pytest.mark.django_db

FILES: dict[str, object] = {f"images/{n:02d}.png": picture(n) for n in range(4)} | {
    "images/09.png": picture(9, size=32),
    **{f"masks/{n:02d}.png": drawn(n) for n in range(3)},
    "masks/corrected.png": mask(30),
}


def test_a_waiting_mask_is_given_to_an_image_of_its_size_and_the_history_takes_it_back(
    dataset: Dataset, bring: Bring, alice: User
) -> None:
    first = bring(FILES)
    [waiting], _ = waiting_page(first)
    assert (waiting.name, waiting.width, waiting.layer) == ("masks/corrected.png", 64, "")
    found = mask_counts.candidates(first, waiting, name="03", number=30)
    assert [each.name for each in found] == ["images/03.png"]
    assert len(mask_counts.candidates(first, waiting, name="", number=30)) == 4

    given: dict[str, Any] = {"layer": "mask", "mask": waiting.mask, "size": (64, 64), "base": 1, "user": alice}
    with pytest.raises(EditRefused, match="Choose an image of its size"):
        mask_edits.mask_attach(dataset, item_id=item(first, 9).pk, **given)
    with pytest.raises(EditRefused, match="Unpair that one first"):
        mask_edits.mask_attach(dataset, item_id=item(first, 1).pk, **given)
    made = mask_edits.mask_attach(dataset, item_id=item(first, 3).pk, **given)
    assert np.array_equal(pixels(item(made, 3)), mask(30))
    assert mask_counts.rules_of(made) == {"mask": {"folder": 3, "hand": 1}}
    assert waiting_page(newest(dataset)) == ([], 0)
    back = dataset_edits.revision_restore(first, base=2, user=alice)
    assert [each.name for each in waiting_page(back)[0]] == ["masks/corrected.png"]


def test_a_wrong_pair_is_mended_on_the_page(seen_by: Seen, dataset: Dataset, bring: Bring, bob: User) -> None:
    first = bring(FILES)
    client = seen_by(bob)
    page = client.get(f"/datasets/{dataset.pk}/?tab=masks").content.decode()
    assert "3 masks: 3 by folder" in page
    assert "masks/corrected.png" in page
    page = press(client, dataset, tab="masks", do="detach", item=item(first, 2).pk, base=1)
    assert "unpaired from images/02.png" in page
    page = client.get(f"/datasets/{dataset.pk}/?tab=masks&waiting=0:masks/02.png&name=03").content.decode()
    target = item(newest(dataset), 3).pk
    assert f'name="item" value="{target}"' in page
    fields = {"tab": "masks", "do": "attach", "waiting": "0:masks/02.png", "item": target, "base": 2}
    assert "The mask masks/02.png paired with images/03.png, by hand." in press(client, dataset, **fields)
    made = newest(dataset)
    assert np.array_equal(pixels(item(made, 3)), drawn(2))
    assert (item(made, 2).masks, "detached" in item(made, 2).facts) == ({}, False)
    assert "This mask is no longer unpaired" in press(client, dataset, **{**fields, "base": 3})
