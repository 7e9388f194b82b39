"""Answers made of quotations: no model, nothing invented.

This is the whole answer where no model is configured, and the degraded answer where the model is not available.
"""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coach import citations
from coach.citations import shorten, without_markers
from coach.clients import Passage
from coach.language import LOCALES, Locale
from common.errors import Text

MODEL = "extractive"
# In the place of a model's name in the scope of a cached answer: another way to quote is another writer.
_RULES = b"".join(Path(file).read_bytes() for file in (__file__, citations.__file__))
WRITER = f"{MODEL}-{hashlib.sha256(_RULES).hexdigest()[:12]}"

LONGEST_ANSWER = 600
LONGEST_QUOTE = 220
MOST_PASSAGES = 3
MOST_QUOTES_EACH = 2
# A further passage is quoted only if it says nearly as much about the question as the best one.
WORTH_QUOTING = 0.7
# Retrieval has read the whole passage; its order counts where the words say little (a question in another language).
RANK_BONUS = 0.15
# A question that names a subject is about it: “Spearman” is not about the Dune Spearguard, alike as they are.
TITLE_BONUS = 0.5

LEAD_IN = Text("From the sources, word for word:", "자료에 있는 내용을 그대로 옮깁니다.")
LEAD_IN_DEGRADED = Text(
    "The AI model is not available right now. From the sources, word for word:",
    "지금은 AI 모델을 사용할 수 없어, 자료에 있는 내용을 그대로 옮깁니다.",
)

# At a stop after a word or a bracket, at a line's end; not in `e. g.` nor in a numbered move, `1. d4 Nf6 2. c4`.
_SENTENCE_END = re.compile(r"(?<=[^\W\d_]{2}[.!?。…])\s+|(?<=[)\]\"'”’][.!?。…])\s+|\n+")
_BRACKETS = re.compile(r"\s*\([^)]*\)")


@dataclass(frozen=True)
class _Sentence:
    marker: int
    ordinal: int
    text: str
    score: float


def quote(question: str, passages: Sequence[Passage], locale: Locale, *, degraded: bool) -> tuple[str, list[int]]:
    """The sentences nearest to the question with the markers of their passages, and these markers."""
    lead_in = LEAD_IN_DEGRADED if degraded else LEAD_IN
    lines, markers = [getattr(lead_in, locale)], []
    for sentences in _best(_score(question, passages, locale)):
        marker = sentences[0].marker
        quotation = " … ".join(sentence.text for sentence in sentences)
        line = f"- {without_markers(passages[marker - 1].title)}: “{quotation}” [{marker}]"
        if len(lines) > 1 and sum(map(len, lines)) + len(line) > LONGEST_ANSWER:
            break
        lines.append(line)
        markers.append(marker)
    return "\n".join(lines), markers


def _best(sentences: Sequence[_Sentence]) -> list[list[_Sentence]]:
    """Up to two sentences of up to three passages: best passage first, sentences in the order they were written."""
    ranked = sorted(sentences, key=lambda sentence: -sentence.score)
    by_passage: dict[int, list[_Sentence]] = {}
    for sentence in ranked:
        if sentence.score < ranked[0].score * WORTH_QUOTING:
            break
        chosen = by_passage.setdefault(sentence.marker, [])
        if len(chosen) < MOST_QUOTES_EACH:
            chosen.append(sentence)
    groups = list(by_passage.values())[:MOST_PASSAGES]
    return [sorted(group, key=lambda sentence: sentence.ordinal) for group in groups]


def _score(question: str, passages: Sequence[Passage], locale: Locale) -> list[_Sentence]:
    """Every sentence, scored by the question's character pairs that it or its title contains, rare ones counting more.

    Pairs of characters need no word boundaries and survive Korean endings. Across languages they say nothing: where
    retrieval put the other language first, because the question's own does not cover it, that one alone is quoted.
    """
    quoted = LOCALES if passages[0].locale == locale else (passages[0].locale,)
    found = [
        (marker, ordinal, shorten(text, LONGEST_QUOTE), _pairs(f"{passage.title} {text}"))
        for marker, passage in enumerate(passages, start=1)
        if passage.locale in quoted
        for ordinal, text in enumerate(_sentences(passage))
    ]
    frequency = Counter(pair for *_, pairs in found for pair in pairs)
    weight = {pair: math.log(1 + len(found) / frequency[pair]) for pair in _pairs(question) & frequency.keys()}
    total = sum(weight.values()) or 1.0
    bonus = {
        marker: RANK_BONUS / marker + (TITLE_BONUS if _names(question, passage.title) else 0)
        for marker, passage in enumerate(passages, start=1)
    }
    return [
        _Sentence(marker, ordinal, text, sum(weight.get(pair, 0) for pair in pairs) / total + bonus[marker])
        for marker, ordinal, text, pairs in found
    ]


def _names(question: str, title: str) -> bool:
    """Whether the title, without what it has in brackets, stands in the question; a Korean ending may follow it."""
    subject = re.escape(_plain(_BRACKETS.sub("", title)))
    ending = "" if re.search(r"[가-힣]$", subject) else r"(?:e?s)?(?![a-z0-9_])"
    return bool(subject) and bool(re.search(rf"(?<!\w){subject}{ending}", _plain(question)))


def _sentences(passage: Passage) -> list[str]:
    """The sentences, without one that only repeats the title, as many documents begin."""
    sentences = [stripped for part in _SENTENCE_END.split(without_markers(passage.text)) if (stripped := part.strip())]
    return [sentence for sentence in sentences if sentence != passage.title] or sentences


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower().strip()


def _pairs(text: str) -> set[str]:
    words = re.findall(r"\w+", _plain(text))
    return {word[i : i + 2] for word in words for i in range(max(len(word) - 1, 1))}
