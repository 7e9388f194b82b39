"""Markers `[n]` in an answer: the known ones become citations, all others never reach the player."""

import re
from collections.abc import Iterable, Sequence

from coach.clients import Passage
from coach.shapes import Citation

SNIPPET_LENGTH = 240

# Models also write `[1, 3]`. A space in front goes with a marker that is removed; looked for at the first of several
# only, or a model that writes nothing but spaces would stop everything else here.
_MARKER = re.compile(r"((?<! ) *)\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")
# From the first bracket of a run on: of `[[7]9]` the inner one goes first, and then the outer one is a marker.
_UNFINISHED = re.compile(r"(?<! ) *(?:\[[\s\d,\[]*)?\Z")


class MarkerFilter:
    """Takes an answer piece by piece and lets only markers of real passages through.

    A marker may be cut anywhere between two pieces, so a beginning of one waits for the next piece. What still waits
    when the answer ends, blanks or half a marker, is dropped.
    """

    def __init__(self, passages: int) -> None:
        self._known = {str(number) for number in range(1, passages + 1)}
        self._waiting = ""
        self.cited: set[int] = set()

    def feed(self, piece: str) -> str:
        """The part of the answer that can be shown now."""
        text, before = self._waiting + piece, None
        while text != before:
            text, before = _MARKER.sub(self._resolve, text), text
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._waiting = text[cut:]
        return text[:cut]

    def _resolve(self, match: re.Match[str]) -> str:
        known = [number for number in re.split(r"\s*,\s*", match[2]) if number in self._known]
        self.cited.update(map(int, known))
        return match[1] + "".join(f"[{number}]" for number in known) if known else ""


def cite(passages: Sequence[Passage], markers: Iterable[int]) -> list[Citation]:
    """The citations behind `markers`, in the order of their numbers."""
    return [
        Citation(
            marker=marker,
            document_id=passages[marker - 1].document_id,
            title=passages[marker - 1].title,
            snippet=shorten(passages[marker - 1].text, SNIPPET_LENGTH),
            source=passages[marker - 1].source,
            url=passages[marker - 1].url,
            start_ms=passages[marker - 1].start_ms,
        )
        for marker in sorted(markers)
    ]


def without_markers(text: str) -> str:
    """A source's own `[3]` as `(3)`, lest it be taken for one of ours."""
    return _MARKER.sub(r"\1(\2)", text)


def shorten(text: str, length: int) -> str:
    """`text` on one line, cut between words to at most `length` characters."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    # A text without spaces is cut where it must be.
    return f"{cut.rpartition(' ')[0] or cut}…"
