"""Files become documents, or are refused with a reason."""

import codecs
import json
import unicodedata
from typing import Any

import pytest

from worker.parse import (
    LONGEST_CHUNK,
    LONGEST_TEXT,
    BadRowError,
    DocumentTooLongError,
    EmptyDocumentError,
    NotTextError,
    UnknownKindError,
    chunk,
    decode,
    kind_of,
    parse_rows,
    title_of,
)

ROW = {
    "doc_id": "wesnoth:unit:Archer:en",
    "game": "wesnoth",
    "locale": "en",
    "title": "Archer",
    "text": "Archers shoot.",
    "source": "the manual",
    "licence": "GPL-2.0-or-later",
}


def rows(*changes: dict[str, Any]) -> str:
    return "\n".join(json.dumps({**ROW, **change}) for change in changes)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("궁수".encode(), "궁수"),
        (codecs.BOM_UTF8 + "궁수".encode(), "궁수"),
        ("궁수는 활을 쏜다".encode("cp949"), "궁수는 활을 쏜다"),
        ("궁수".encode("utf-16"), "궁수"),
        (unicodedata.normalize("NFD", "궁수").encode(), "궁수"),
        (b"one\r\ntwo", "one\ntwo"),
    ],
)
def test_text_is_read_in_the_encodings_that_files_come_in(content: bytes, text: str) -> None:
    assert decode(content) == text


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff\xff", b"a\x00b", b"\xff\xfe\x00"])
def test_what_is_not_text_is_refused(content: bytes) -> None:
    with pytest.raises(NotTextError):
        decode(content)


@pytest.mark.parametrize("content", [b"", b" \r\n\t", codecs.BOM_UTF8])
def test_a_file_without_text_is_refused(content: bytes) -> None:
    with pytest.raises(EmptyDocumentError):
        decode(content)


def test_the_extension_says_the_kind() -> None:
    names = ("a.jsonl", "B.SRT", "c.vtt", "d.txt", "e.md")
    assert [kind_of(name) for name in names] == ["jsonl", "subtitle", "subtitle", "text", "markdown"]
    with pytest.raises(UnknownKindError):
        kind_of("movie.mp4")


def test_rows_keep_their_text_as_it_is() -> None:
    (row,) = parse_rows("\n" + rows({"text": " two\u2028lines "}) + "\n\n", "wesnoth")
    assert row.text == " two\u2028lines "


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (rows({}, {"doc_id": "b", "locale": "fr"}), "line 2.locale"),
        (rows({"text": ""}), "line 1.text"),
        (rows({"text": " \n" * 1_000}), "line 1.text"),
        (rows({"title": "one\0two"}), "line 1.title"),
        (rows({"txet": "?"}), "line 1.txet"),
        ("{", "line 1"),
        (rows({"text": "@"}).replace("@", "\\ud800"), "line 1"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(text: str, field: str) -> None:
    with pytest.raises(BadRowError) as caught:
        parse_rows(text, "wesnoth")
    assert caught.value.errors[0]["field"] == field


def test_rows_of_another_game_and_repeated_rows_are_refused() -> None:
    with pytest.raises(BadRowError, match="Line 2 is about another game"):
        parse_rows(rows({}, {"doc_id": "b", "game": "chess"}), "wesnoth")
    with pytest.raises(BadRowError, match="Line 2 repeats"):
        parse_rows(rows({}, {}), "wesnoth")


def test_the_title_is_the_first_heading_or_the_name() -> None:
    assert title_of("intro\n## Archers  \ntext", "guide.md") == "Archers"
    assert title_of("no heading", "guide.v2.md") == "guide.v2"


def test_short_text_is_one_chunk_and_long_text_is_cut_within_bounds() -> None:
    whole = "x" * LONGEST_CHUNK
    assert [piece.text for piece in chunk(whole)] == [whole]
    sentences = " ".join(f"Sentence number {i} says something about archers." for i in range(200))
    pieces = [piece.text for piece in chunk(sentences)]
    assert all(LONGEST_CHUNK / 4 < len(piece) <= LONGEST_CHUNK for piece in pieces)
    assert all(any(f"number {i} " in piece for piece in pieces) for i in range(200))
    with pytest.raises(DocumentTooLongError):
        chunk("x" * (LONGEST_TEXT + 1))
