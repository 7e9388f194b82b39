"""From an uploaded file to documents or to the lines of a transcript; every refusal is a typed error."""

import codecs
import unicodedata
from pathlib import PurePath
from typing import NamedTuple

from pydantic import ValidationError
from semantic_text_splitter import TextSplitter

from common.errors import InvalidError, Text, UnsupportedMediaError
from worker.models import Kind, Row

KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".srt": "subtitle",
    ".vtt": "subtitle",
    ".txt": "text",
    ".md": "markdown",
}

# Vectors shipped with the sample data are found by the exact text of a chunk, so this rule is a contract with rag.
LONGEST_CHUNK = 1200
SPLITTER = TextSplitter((LONGEST_CHUNK // 2, LONGEST_CHUNK), overlap=100)
# About 1,000 chunks, which rag embeds for minutes before it answers.
LONGEST_TEXT = 500_000


class UnknownKindError(UnsupportedMediaError):
    code = "unsupported_document"
    title = Text(f"Only {', '.join(KINDS)} files can be ingested", f"{', '.join(KINDS)} 파일만 등록할 수 있습니다")


class EmptyDocumentError(InvalidError):
    code = "empty_document"
    title = Text("The file holds no text", "파일에 내용이 없습니다")


class NotTextError(InvalidError):
    code = "not_text"
    title = Text("The file is not text in UTF-8, UTF-16 or CP949", "UTF-8, UTF-16, CP949 텍스트 파일이 아닙니다")


class BadRowError(InvalidError):
    code = "bad_row"
    title = Text("A row of the file is not a document", "파일에 문서가 아닌 줄이 있습니다")


class DocumentTooLongError(InvalidError):
    code = "document_too_long"
    title = Text(
        f"A document may have {LONGEST_TEXT:,} characters at most", f"문서는 {LONGEST_TEXT:,}자까지 등록할 수 있습니다"
    )


class Chunk(NamedTuple):
    """A passage to be embedded; the times are those of a recording."""

    text: str
    start_ms: int | None = None
    end_ms: int | None = None


def kind_of(filename: str) -> Kind:
    """The kind that the extension of `filename` stands for."""
    try:
        return KINDS[PurePath(filename).suffix.lower()]
    except KeyError:
        raise UnknownKindError from None


def decode(content: bytes) -> str:
    """The text of a file, composed (NFC); Korean files are often still CP949."""
    for encoding in _encodings(content):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise NotTextError
        if not text.strip():
            raise EmptyDocumentError
        return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    raise NotTextError


def _encodings(content: bytes) -> tuple[str, ...]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    return ("utf-8-sig", "cp949")


def parse_rows(text: str, game: str) -> list[Row]:
    """The rows of a JSONL file, all of them documents of `game`."""
    rows: dict[str, Row] = {}
    # Not splitlines(): JSON strings may hold U+2028 and the like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            raise _bad_row(number, error) from error
        if row.game != game:
            raise BadRowError(Text(f"Line {number} is about another game", f"{number}번째 줄은 다른 게임의 문서입니다"))
        if row.doc_id in rows:
            raise BadRowError(Text(f"Line {number} repeats a doc_id", f"{number}번째 줄의 doc_id가 중복됩니다"))
        rows[row.doc_id] = row
    return list(rows.values())


def _bad_row(number: int, error: ValidationError) -> BadRowError:
    fields = [
        {"field": ".".join((f"line {number}", *map(str, item["loc"]))), "type": item["type"], "message": item["msg"]}
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return BadRowError(
        Text(f"Line {number} is not a document", f"{number}번째 줄은 올바른 문서가 아닙니다"), errors=fields
    )


def title_of(text: str, filename: str) -> str:
    """The first Markdown heading, or else the file's name."""
    for line in text.split("\n"):
        if line.startswith("#") and (heading := line.lstrip("#").strip()):
            return heading[:300]
    return PurePath(filename).stem


def chunk(text: str) -> list[Chunk]:
    """`text` whole when it is short, else in pieces that end where a thought does and overlap a little."""
    if len(text) > LONGEST_TEXT:
        raise DocumentTooLongError
    if len(text) <= LONGEST_CHUNK:
        return [Chunk(text)]
    return [Chunk(piece) for piece in SPLITTER.chunks(text)]
