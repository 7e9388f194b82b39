"""What a question asks, word by word: its content in order, so that two questions can be compared exactly.

Politeness, filler, spelling and spacing are dropped. All that could turn a question into another one stays: names,
numbers, units, signs, negation, comparison, direction, who does what to whom, and endings that change the sense
(may and must differ by one: 먹어도 돼, 먹어야 돼).
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from kiwipiepy import Kiwi, Token  # type: ignore[import-untyped]

Kind = Literal["noun", "number", "verb", "marker", "other"]

# Zero-width spaces and joiners, direction marks, soft hyphens, variation selectors, NUL and other control characters.
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u00ad\ufe00-\ufe0f\ufeff\x00-\x08\x0e-\x1f\x7f]")
_HANGUL = re.compile(r"[가-힣ㄱ-ㅣ]")
# Capitals that are no spelling: a letter of its own (the keys Z and z), but neither article nor pronoun, and the
# bishop of Bxc3, which is no pawn of the b-file.
_NAMING_CAPITAL = re.compile(
    r"(?<![A-Za-z0-9'’-])("
    r"[B-HJ-Z](?![A-Za-z0-9'’-])|[AI](?! ?[A-Za-z0-9'’-])|(?<=[Tt]he )A(?![A-Za-z0-9'’-])|B(?=x?[a-h][1-8])"
    r")"
)
# Not after a digit, where several are a verdict on a move (Qh5??), nor alone, where they are what is asked about.
_FINAL_MARKS = re.compile(r"(?:(?<=\d)[.?!~…。？！]|(?<![\s\d.?!~…。？！])[.?!~…。？！]+| \?)\Z")
# Signs the language analysers take for punctuation: alone, as a verdict, between digits, before or after one.
_NAMING_SIGNS = re.compile(
    r"(?<!\S)(?:[^\w\s]|_)+(?=\s|\Z)|(?<![^\W\d_]|[?!])[?!]+|(?<=\d)~(?=\d)|(?<![\w.])\.(?=\d)|(?<=\d)['\"]"
)
_SMILES = re.compile(r"[\U0001f600-\U0001f64f\U0001f910-\U0001f93e\U0001f970-\U0001f97a]")


def normalise(question: str) -> str:
    """The question as the exact cache compares it: composed, one case and spacing, nothing invisible, no final mark."""
    text = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", question)).split())
    parts = _NAMING_CAPITAL.split(text)  # every other one is such a capital
    return _FINAL_MARKS.sub("", "".join(part if place % 2 else part.casefold() for place, part in enumerate(parts)))


def content_words(question: str) -> list[str]:
    """The content of a question, in order; equal lists mean that nothing that matters differs."""
    text = _SMILES.sub("", normalise(question)).strip()
    words = _korean(text) if _HANGUL.search(text) else _english(text)
    return words + _NAMING_SIGNS.findall(text) if words else []


# English -----------------------------------------------------------------------------------------------------------

_ENGLISH_TOKEN = re.compile(
    r"(?<![\w.])[+-]?\.?\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?|[^\w\s.,!?;:'\"“”‘’()\[\]…~-]|(?<=\d)-(?=\d)|\d+"
)
_CONTRACTIONS = (
    (re.compile(r"[\u2018\u2019]"), "'"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\bcan't\b|\bcannot\b"), "can not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'(?:s|re)\b"), " is"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
)
_ENGLISH_REQUEST = re.compile(
    r"^[\s\"“‘'(]*(?:(?:hey|hi|hello|so|ok|okay|um)\b[\s,.!~]*)*(?:(?:please|pls|plz)\b[\s,.!~]*)?"
    r"(?:(?:can|could|would|will) you (?:please |pls |plz )?(?:tell me|explain(?: to me)?)\b|(?:please )?tell me\b)?"
    r"|\b(?:please|pls|plz|thanks|thank you|thx)\b(?=\W*\Z)"
)
# Not the a-file, nor what stands behind another article: “the A key”, “the a key”.
_ENGLISH_ARTICLE = re.compile(r"(?<!\bthe )\b(?:an?|the)(?=\s)")
# Words whose place says nothing. That they are there may: are Trolls hurt? do Trolls hurt?
_ENGLISH_BE = frozenset({"is", "are"})
_ENGLISH_DROPPED = _ENGLISH_BE | {"do", "does"}


def _english(text: str) -> list[str]:
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    text = _ENGLISH_ARTICLE.sub(" ", _ENGLISH_REQUEST.sub(" ", text))
    words = _ENGLISH_TOKEN.findall(text)
    content = [word for word in words if word not in _ENGLISH_DROPPED]
    return content + ["is" for word in words if word in _ENGLISH_BE] if content else []


# Korean ------------------------------------------------------------------------------------------------------------


class _Word(NamedTuple):
    text: str
    kind: Kind


_NOUN_TAGS = frozenset({"NNG", "NNP", "NNB", "NP", "SL", "SH", "XPN", "XSN", "XR"})
_VERB_TAGS = frozenset({"VV", "XSV"})
# Sentence ends and punctuation, honorifics, the copula, interjections, the genitive (창병의 체력 = 창병 체력).
_DROPPED_TAGS = frozenset({"EF", "SF", "SP", "SS", "SSO", "SSC", "SE", "VCP", "IC", "JKG", "JKV"})
_DROPPED_WORDS = frozenset({"혹시", "좀", "요", "시", "으시"})
_VERSUS = ("대", "NNB")  # 기병 대 창병 is no 기병대 창병
_MARKERS = {"JKS": "이", "JKO": "을"}
_SAME_WORD = {
    "것": "거",
    "무엇": "뭐",
    "으로": "로",
    "ᆯ로": "로",
    "한테": "에게",
    "께": "에게",
    "과": "와",
    "랑": "와",
    "이랑": "와",
    "하고": "와",
}
_EMOTICON = re.compile(r"[ㄱ-ㅣ^~]+")
_REQUEST_STEMS = frozenset({"알리다", "가르치다", "말하다", "설명하다"})


@cache
def kiwi() -> Kiwi:
    """The Korean analyser of this process; its first use takes three seconds."""
    return Kiwi(num_workers=1)


def _korean(text: str) -> list[str]:
    tokens = _without_request(kiwi().tokenize(text))
    words = [word for place in range(len(tokens)) if (word := _word(tokens, place))]
    return _join_nouns(_without_free_marker(words))


def _without_request(tokens: list[Token]) -> list[Token]:
    """Cut “(…인지) 알려 줘” off the end."""
    end = len(tokens)
    while end and tokens[end - 1].tag in ("EF", "SF", "SW", "JX"):
        end -= 1
    match tokens[max(end - 3, 0) : end]:
        case [verb, ending, give] if verb.lemma in _REQUEST_STEMS and ending.tag == "EC" and give.lemma == "주다":
            end -= 3
            return tokens[: end - 1] if end and tokens[end - 1].tag == "EC" else tokens[:end]
    return tokens


def _word(tokens: Sequence[Token], place: int) -> _Word | None:
    """What a token means to the comparison, or nothing."""
    token = tokens[place]
    tag = token.tag.partition("-")[0]  # a suffix tells regular from irregular stems
    is_filler = token.form in _DROPPED_WORDS and tag not in _NOUN_TAGS  # 혹시, not 3시
    if tag in _DROPPED_TAGS or is_filler or _is_decoration(tokens, place):
        return None
    if tag in _MARKERS or (tag == "JX" and token.form in ("은", "는")):
        return _Word(_MARKERS.get(tag, "은"), "marker")
    if tag in ("SN", "NR", "W_SERIAL"):
        return _Word(token.form, "number")
    if tag in _NOUN_TAGS and (token.form, tag) != _VERSUS:
        return _Word(_SAME_WORD.get(token.form, token.form), "noun")
    if tag in _VERB_TAGS:
        return _Word(token.lemma, "verb")
    if tag[0] == "E":
        ending = _plain_ending(token.form)
        # At the very end Kiwi takes 상대해 for 상대하 + 여, “and”.
        return None if place == len(tokens) - 1 and ending == "어" else _Word("-" + ending, "other")
    return _Word(token.lemma if tag[0] == "V" else _SAME_WORD.get(token.form, token.form), "other")


def _is_decoration(tokens: Sequence[Token], place: int) -> bool:
    """Whether a sign says nothing: ㅠㅠ, ~, the hyphen of a name; not the minus of a number."""
    token = tokens[place]
    if token.tag == "SW":
        return bool(_EMOTICON.fullmatch(token.form))
    if token.tag != "SO":
        return False
    after_name = place > 0 and tokens[place - 1].tag == "SL"
    before_number = place + 1 < len(tokens) and tokens[place + 1].tag == "SN"
    return after_name or not before_number


def _plain_ending(form: str) -> str:
    """An ending without the vowel it takes from its stem: 으면 = 면, 아야 = 어야, ᆫ = 은."""
    form = {"ᆫ": "은", "ᆯ": "을"}.get(form, form)
    if len(form) > 1 and form[0] == "으":
        form = form[1:]
    return {"아": "어", "여": "어", "았": "었", "였": "었"}.get(form[0], form[0]) + form[1:]


def _without_free_marker(words: list[_Word]) -> list[_Word]:
    """Drop a question's only case marker where leaving it out is mere style.

    Two markers tell who does what to whom, and so does a subject's or topic's with a verb (창병이 이겨? 창병을 이겨?).
    A lone object right before its verb is an object with or without it, unless both are all there is (창병 이겨?).
    """
    places = [place for place, word in enumerate(words) if word.kind == "marker"]
    if len(places) != 1:
        return words
    marker = places[0]
    is_object = words[marker].text == "을"
    followed_by_noun = marker + 1 < len(words) and words[marker + 1].kind in ("noun", "number")
    is_all = marker + 2 == len(words) and all(word.kind == "noun" for word in words[:marker])
    has_verb = any(word.kind == "verb" for word in words)
    if not has_verb or (is_object and not followed_by_noun and not is_all):
        return words[:marker] + words[marker + 1 :]
    return words


def _join_nouns(words: Sequence[_Word]) -> list[str]:
    """Write neighbouring nouns as one: spacing inside a name or a compound varies freely."""
    joined: list[str] = []
    previous: Kind = "other"
    for word in words:
        if word.kind == previous == "noun":
            joined[-1] += word.text
        else:
            joined.append(f"+{word.text}" if word.kind == "marker" else word.text)
        previous = word.kind
    return joined
