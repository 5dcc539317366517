"""Numbers as people write them."""

from __future__ import annotations

import pytest

from webapp.jobs.forms.number_parsing import Ambiguous, as_number


@pytest.mark.parametrize(
    ("kind", "written", "read"),
    [
        ("integer", "1,000", "1000"),
        ("integer", "1 000 000", "1000000"),
        ("integer", "1\u202f000", "1000"),
        ("integer", "12'000", "12000"),
        ("integer", "30", "30"),
        ("number", "0,5", "0.5"),
        ("number", ",5", ".5"),
        ("number", "0,0003", "0.0003"),
        ("number", "0,001", "0.001"),
        ("number", "3e-4", "3e-4"),
        ("text", "1,000", "1,000"),
    ],
)
def test_marks_of_thousands_and_decimal_commas_are_understood(kind: str, written: str, read: str) -> None:
    assert as_number(written, kind=kind) == read


@pytest.mark.parametrize("written", ["many", "", "1e999", "1,00", "1,0000", "-", "0,5,5", "1,000,00"])
def test_what_is_no_number_is_left_to_the_sentence_of_its_field(written: str) -> None:
    assert as_number(written, kind="integer") == written


@pytest.mark.parametrize(
    ("kind", "written", "sentence"),
    [
        ("integer", "1.000", "1.000 can be read in two ways: write 1000 or 1."),
        ("number", "1,000", "1,000 can be read in two ways: write 1000 or 1."),
        ("number", "1,250", "1,250 can be read in two ways: write 1250 or 1.25."),
    ],
)
def test_what_could_be_two_numbers_is_asked_about(kind: str, written: str, sentence: str) -> None:
    with pytest.raises(Ambiguous) as caught:
        as_number(written, kind=kind)
    assert str(caught.value) == sentence
