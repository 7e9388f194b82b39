"""From a subtitle track to the lines that were said, each once, and to passages with times."""

import html
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pysubs2

from common.errors import InvalidError, Text
from worker.parse import LONGEST_TEXT, DocumentTooLongError, EmptyDocumentError

# "[Music]" and "(박수)": a bracket anywhere is a sound or a speaker, a parenthesis only when nothing else is said.
_SOUND = re.compile(r"\[[^\]\n]{0,60}\]|^[ \t]*[(（][^()\n]{0,60}[)）][ \t]*$|[♪♫]+", re.MULTILINE)
_SPEAKER_MARK = re.compile(r"^[ \t]*(?:-|–|&gt;&gt;|>>)\s*", re.MULTILINE)
_CUE = re.compile(r"^[^\n]*-->.*", re.MULTILINE | re.DOTALL)
# pysubs2 takes a time quadratic in the length of these; 200,000 blank lines would hold the process for minutes.
_LONG_RUN = re.compile(r"([ \n])\1{2,}")
_WORD_TIME = re.compile(r"<\d[\d:.]*>")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)]*$")

# Live captions scroll: each line stands in several cues. A track counts as such when this many cues repeat a line.
ROLLING_SHARE = 0.3


# Nobody reads more at once, or records for longer (SRT cannot say 100 hours); such a file is something else.
LONGEST_CUE = 2000
LONGEST_TRACK_MS = 100 * 3_600_000


class NotSubtitlesError(InvalidError):
    code = "not_subtitles"
    title = Text("The file is not a subtitle track", "자막 파일이 아닙니다")


class Line(NamedTuple):
    """Something said between two moments of a recording."""

    start_ms: int
    end_ms: int
    text: str


def parse_subtitles(text: str) -> list[Line]:
    """What is said in an SRT or WebVTT track, in order; refuses a file that holds nothing said."""
    track = _read_cues(_LONG_RUN.sub(r"\1\1", text))
    cues = [(event.start, max(event.start, event.end), _spoken_rows(event.plaintext)) for event in track]
    if _is_rolling([rows for _, _, rows in cues]):
        cues = _unroll(cues)
    lines = [Line(start, end, " ".join(rows)) for start, end, rows in cues if rows]
    if not track or any(len(line.text) > LONGEST_CUE or line.end_ms > LONGEST_TRACK_MS for line in lines):
        raise NotSubtitlesError
    if not lines:
        raise EmptyDocumentError
    if sum(len(line.text) for line in lines) > LONGEST_TEXT:
        raise DocumentTooLongError
    return lines


def _read_cues(text: str) -> pysubs2.SSAFile:
    is_vtt = text.lstrip().startswith("WEBVTT")
    plain = _WORD_TIME.sub("", _cue_blocks(text) if is_vtt else text)
    try:
        track = pysubs2.SSAFile.from_string(plain, format_="vtt" if is_vtt else "srt")
    except ValueError:  # such as the time ":00:01.000"
        raise NotSubtitlesError from None
    track.sort()
    return track


def _cue_blocks(text: str) -> str:
    """A WebVTT file without its notes, styles and cue names, which pysubs2 would take for speech."""
    blocks = (_CUE.search(block) for block in text.split("\n\n"))
    return "\n\n".join(["WEBVTT", *(found[0] for found in blocks if found)])


def _spoken_rows(text: str) -> list[str]:
    spoken = _SPEAKER_MARK.sub("", _SOUND.sub("", html.unescape(text)))
    return [" ".join(row.split()) for row in spoken.split("\n") if row.strip()]


def _is_rolling(cues: list[list[str]]) -> bool:
    repeats = sum(_overlap(before, after) > 0 for before, after in pairwise(cues))
    return repeats >= ROLLING_SHARE * len(cues) and repeats > 1


def _unroll(cues: Iterable[tuple[int, int, list[str]]]) -> list[tuple[int, int, list[str]]]:
    """Of each cue only the rows that scrolled in with it."""
    unrolled = []
    shown: list[str] = []
    for start, end, rows in cues:
        unrolled.append((start, end, rows[_overlap(shown, rows) :]))
        shown = rows or shown
    return unrolled


def _overlap(before: list[str], after: list[str]) -> int:
    """How many rows at the end of `before` stand at the start of `after` again."""
    return next((n for n in range(min(len(before), len(after)), 0, -1) if before[-n:] == after[:n]), 0)


def cut(lines: Iterable[Line], longest: int) -> list[Line]:
    """Neighbouring lines joined to pieces of about `longest` characters, ending with a sentence where possible."""
    pieces: list[Line] = []
    held: list[Line] = []
    for line in lines:
        while held and _length([*held, line]) > longest:
            end = _last_sentence_end(held, longest // 2)
            pieces.append(_join(held[:end]))
            held = held[end:]
        held.append(line)
    return [*pieces, _join(held)] if held else pieces


def _last_sentence_end(lines: list[Line], shortest: int) -> int:
    """How many of `lines` make a piece: up to the last sentence end past `shortest` characters, else all."""
    ends = (n for n in range(len(lines), 0, -1) if _SENTENCE_END.search(lines[n - 1].text))
    return next((n for n in ends if _length(lines[:n]) >= shortest), len(lines))


def _length(lines: list[Line]) -> int:
    return sum(len(line.text) + 1 for line in lines) - 1


def _join(lines: list[Line]) -> Line:
    return Line(lines[0].start_ms, lines[-1].end_ms, " ".join(line.text for line in lines))


def windows(lines: Iterable[Line], seconds: int) -> list[list[Line]]:
    """Lines by the stretch of `seconds` they start in; a stretch without speech has no window."""
    found: dict[int, list[Line]] = {}
    for line in lines:
        found.setdefault(line.start_ms // (seconds * 1000), []).append(line)
    return list(found.values())
