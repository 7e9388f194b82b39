"""From a stored upload to what rag can find: the story of one ingestion, every step of which may run again."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast, get_args
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from common.db import Sessions
from worker.clients import CoachClient, Document, RagClient
from worker.index import about, batches, summary_document, text_documents, time_link, transcript_document
from worker.models import Locale, Summary, Transcript, Upload
from worker.parse import decode
from worker.subtitles import Line, parse_subtitles
from worker.summarise import Digest, Track, summarise

# Called with what is done and the whole.
Report = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True)
class Tools:
    """What an ingestion works with."""

    sessions: Sessions
    rag: RagClient
    coach: CoachClient
    window_seconds: int


async def ingest(upload: Upload, tools: Tools, report: Report) -> dict[str, Any]:
    """Index what was uploaded, a transcript with its summary; returns the job's result."""
    text = decode(upload.content)
    if upload.kind == "subtitle":
        return await _ingest_track(upload, parse_subtitles(text), tools, report)
    return await _publish(upload.game, text_documents(upload, text), tools, report)


async def _ingest_track(upload: Upload, lines: list[Line], tools: Tools, report: Report) -> dict[str, Any]:
    locale = cast("Locale", upload.locale)  # the table has it so for every subtitle
    track = Track(game=upload.game, locale=locale, title=about(upload).title, lines=lines)
    parts = track.windows(tools.window_seconds)
    done, total = 0, len(parts) + 3

    async def step() -> None:
        nonlocal done
        done += 1
        await report(done, total)

    transcript_id = await _store_transcript(upload, track, tools.sessions)
    await step()
    # The words can be found before they are summed up, which takes a model minutes.
    indexed = await tools.rag.publish(upload.game, [transcript_document(upload, lines)])
    await step()
    digests = await summarise(track, parts, get_args(Locale), tools.coach, step)
    await _store_summaries(upload, transcript_id, digests, tools.sessions)
    indexed += await tools.rag.publish(upload.game, [summary_document(upload, digest) for digest in digests])
    await report(total, total)
    result = _result(Counter(document.state for document in indexed), sum(document.chunks for document in indexed))
    return {**result, "summary": digests[0].method, "transcript_id": str(transcript_id)}


async def _publish(game: str, documents: list[Document], tools: Tools, report: Report) -> dict[str, Any]:
    states: Counter[str] = Counter()
    chunks = 0
    await report(0, len(documents))
    for batch in batches(documents):
        indexed = await tools.rag.publish(game, batch)
        states.update(document.state for document in indexed)
        chunks += sum(document.chunks for document in indexed)
        await report(states.total(), len(documents))
    return _result(states, chunks)


def _result(states: Counter[str], chunks: int) -> dict[str, Any]:
    return {"documents": states.total(), "chunks": chunks, **states}


async def _store_transcript(upload: Upload, track: Track, sessions: Sessions) -> UUID:
    row = Transcript(
        upload_id=upload.id,
        locale=track.locale,
        duration_ms=track.lines[-1].end_ms,
        lines=[list(line) for line in track.lines],
    )
    async with sessions.begin() as session:
        await session.exec(insert(Transcript).values(row.model_dump()).on_conflict_do_nothing())
        return (await session.exec(select(Transcript.id).where(Transcript.upload_id == upload.id))).one()


async def _store_summaries(upload: Upload, transcript_id: UUID, digests: list[Digest], sessions: Sessions) -> None:
    """A second run writes the same again, or what a model says now over what was only extracted then."""
    async with sessions.begin() as session:
        for digest in digests:
            moments = [{**moment.model_dump(), "url": time_link(upload.url, moment)} for moment in digest.moments]
            row = Summary(transcript_id=transcript_id, **digest.model_dump(exclude={"moments"}), moments=moments)
            values = row.model_dump()
            key = {"transcript_id", "locale", "id"}
            upsert = insert(Summary).values(values)
            await session.exec(
                upsert.on_conflict_do_update(
                    index_elements=[col(Summary.transcript_id), col(Summary.locale)],
                    set_={name: value for name, value in values.items() if name not in key},
                )
            )
