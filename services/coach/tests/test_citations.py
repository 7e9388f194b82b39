"""Markers: however an answer is cut into pieces, only those of real passages are shown."""

import re
import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coach.citations import MarkerFilter, cite, shorten, without_markers
from coach.clients import Passage

PASSAGES = 5
MARKED = st.text(alphabet="[]19, a", max_size=16)


def filtered(pieces: list[str]) -> tuple[str, set[int]]:
    markers = MarkerFilter(PASSAGES)
    return "".join(markers.feed(piece) for piece in pieces), markers.cited


@given(text=MARKED, cuts=st.lists(st.integers(0, 16), max_size=8))
def test_the_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert filtered(pieces) == filtered([text])


@given(text=MARKED)
def test_every_marker_shown_is_cited_and_known(text: str) -> None:
    shown, cited = filtered([text])
    markers = re.findall(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]", shown)
    assert {int(marker) for marker in markers} <= cited <= set(range(1, PASSAGES + 1))


def test_examples() -> None:
    for said, shown in {
        "Yes [1].": "Yes [1].",
        "Yes [1][7].": "Yes [1].",
        "Yes [1, 3; 2].": "Yes [1, 3; 2].",
        "Yes [1,3, 9].": "Yes [1][3].",
        "Yes [0] [6] [12].": "Yes.",
        "Yes [[7]9].": "Yes.",
        "A list[a], [see 3]": "A list[a], [see 3]",
        "Cut off [1": "Cut off",
        "An empty []": "An empty []",
    }.items():
        assert filtered(list(said))[0] == shown, said


def test_a_model_that_writes_nothing_but_spaces_holds_nobody_up() -> None:
    started = time.process_time()
    assert filtered(["["] + [" " * 80] * 100 + ["x"])[0] == "[" + " " * 8000 + "x"
    assert filtered([" " * 80] * 100 + ["x"])[0] == " " * 8000 + "x"
    assert time.process_time() - started < 1


def test_citations_come_in_the_order_of_their_numbers() -> None:
    passages = [
        Passage(document_id=f"d{n}", version=1, title=f"T{n}", text="word " * 100, source="s", locale="en")
        for n in range(1, 4)
    ]
    citations = cite(passages, {3, 1})
    assert [(citation.marker, citation.document_id) for citation in citations] == [(1, "d1"), (3, "d3")]
    assert all(len(citation.snippet) <= 240 for citation in citations)


def test_shortening_cuts_between_words_where_there_are_any() -> None:
    assert shorten("one two\nthree", 20) == "one two three"
    assert shorten("one two three", 10) == "one two…"
    assert shorten("가" * 30, 10) == "가" * 9 + "…"


def test_a_sources_own_markers_are_taken_from_it() -> None:
    assert without_markers("As shown in [3] and [4, 5].") == "As shown in (3) and (4, 5)."
