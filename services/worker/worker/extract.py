"""Picks the sentences that stand for a text, by the words they share with the whole of it."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

from worker.subtitles import Line

# Korean words carry their particles with them; pairs of syllables match across particles.
_TERM = re.compile(r"[a-z0-9']{2,}|[가-힣]+")
# Shorter pieces ("Okay, next slide.") say nothing alone.
SHORTEST = 30


def most_typical(parts: Sequence[Sequence[Line]]) -> list[Line]:
    """Of each part the line nearest (cosine of tf-idf) to all lines together."""
    counts = [[_terms(line.text) for line in part] for part in parts]
    spread = Counter(term for terms in chain.from_iterable(counts) for term in terms)
    total = sum(map(len, counts))
    rarity = {term: math.log((1 + total) / (1 + lines)) for term, lines in spread.items()}
    centre: dict[str, float] = defaultdict(float)
    for terms in chain.from_iterable(counts):
        for term, count in terms.items():
            centre[term] += count * rarity[term]
    return [
        max(zip(part, part_counts, strict=True), key=lambda pair: _likeness(pair[0], pair[1], rarity, centre))[0]
        for part, part_counts in zip(parts, counts, strict=True)
    ]


def _terms(text: str) -> Counter[str]:
    words = _TERM.findall(text.lower())
    return Counter(term for word in words for term in (_pairs(word) if word >= "가" else [word]))


def _pairs(word: str) -> list[str]:
    return [word[i : i + 2] for i in range(max(len(word) - 1, 1))]


def _likeness(
    line: Line, terms: Counter[str], rarity: Mapping[str, float], centre: Mapping[str, float]
) -> tuple[bool, float]:
    shared = sum(count * rarity[term] * centre[term] for term, count in terms.items())
    length = math.sqrt(sum((count * rarity[term]) ** 2 for term, count in terms.items()))
    return len(line.text) >= SHORTEST, shared / length if length else 0.0
