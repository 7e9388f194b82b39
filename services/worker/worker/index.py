"""What becomes of an upload in rag: its documents, their chunks, and the batches they travel in."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from worker.clients import Document
from worker.models import Upload
from worker.parse import Chunk, chunk, parse_rows, title_of
from worker.subtitles import Line, cut
from worker.summarise import Digest, Moment

# A call holds this many documents or chunks at most (one document is never divided).
BATCH_DOCUMENTS = 64
BATCH_CHUNKS = 256
# What one citation of a recording quotes: about a minute of speech.
TRANSCRIPT_CHUNK = 1000

_EXTRACTS = {"en": "extracts", "ko": "발췌"}


class About(NamedTuple):
    """Where a document comes from, as its uploader says."""

    title: str
    source: str
    licence: str
    patch: str | None
    url: str | None
    as_of: date


def about(upload: Upload, text: str = "") -> About:
    """What was said about `upload`, completed from its name and `text`."""
    return About(
        title=upload.title or title_of(text, upload.filename),
        source=upload.source or upload.filename,
        licence=upload.licence or "unspecified",
        patch=upload.patch,
        url=upload.url,
        as_of=upload.created_at.date(),
    )


def text_documents(upload: Upload, text: str) -> list[Document]:
    """The documents in a JSONL, text or Markdown file."""
    if upload.kind != "jsonl":
        key = f"file:{upload.locale}:{upload.filename}"
        return [_document(key, upload.kind, upload.locale, about(upload, text), chunk(text))]
    documents = []
    for row in parse_rows(text, upload.game):
        said = About(
            title=row.title,
            source=row.source,
            licence=row.licence,
            patch=row.patch or upload.patch,
            url=str(row.url) if row.url else upload.url,
            as_of=row.as_of or upload.created_at.date(),
        )
        documents.append(_document(row.doc_id, upload.kind, row.locale, said, chunk(row.text)))
    return documents


def transcript_document(upload: Upload, lines: Sequence[Line]) -> Document:
    """A track word by word, its chunks with times."""
    chunks = [Chunk(piece.text, piece.start_ms, piece.end_ms) for piece in cut(lines, TRANSCRIPT_CHUNK)]
    key = f"subtitle:{upload.locale}:{upload.filename}"
    return _document(key, upload.kind, upload.locale, about(upload), chunks)


def summary_document(upload: Upload, digest: Digest) -> Document:
    """A summary beside its track: the text, and each key moment as a chunk that can be cited with its time."""
    told = [] if digest.method == "extracted" else chunk(digest.text)  # extracts are their moments
    moments = [Chunk(moment.text, moment.start_ms) for moment in digest.moments]
    label = f" ({_EXTRACTS[digest.locale]})" if digest.method == "extracted" else ""
    said = about(upload)._replace(title=f"{digest.title}{label}")
    key = f"summary:{digest.locale}:{upload.locale}:{upload.filename}"
    return _document(key, "summary", digest.locale, said, [*told, *moments])


def _document(key: str, kind: str, locale: str | None, said: About, chunks: list[Chunk]) -> Document:
    content: dict[str, Any] = {"key": key, "kind": kind, "locale": locale, **said._asdict(), "chunks": chunks}
    # Without the date: the same text uploaded on another day is no new version.
    content.pop("as_of")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Document(**content, as_of=said.as_of, sha256=digest)


def batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Neighbouring documents, as many as one call to rag should hold."""
    batch: list[Document] = []
    chunks = 0
    for document in documents:
        if batch and (len(batch) == BATCH_DOCUMENTS or chunks + len(document.chunks) > BATCH_CHUNKS):
            yield batch
            batch, chunks = [], 0
        batch.append(document)
        chunks += len(document.chunks)
    if batch:
        yield batch


def time_link(url: str | None, moment: Moment) -> str | None:
    """The address that starts a recording at `moment`, as video sites understand it (`t` in seconds)."""
    if url is None:
        return None
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "t"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("t", moment.start_ms // 1000)])))
