"""The two languages of the product, and text as players type it."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, get_args

Locale = Literal["ko", "en"]
LOCALES: tuple[Locale, ...] = get_args(Locale)

_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
# Control characters, and halves of surrogate pairs, which JSON can hold and nothing behind us accepts.
_UNUSABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Spaces, zero-width and direction marks, variation selectors, Korean filler letters, the empty Braille cell.
_BLANK = (
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)
# Looked for at the beginning of a run of blanks only: from every place in it would take time that grows by its square.
_BLANK_EDGES = re.compile(rf"\A{_BLANK}+|(?<!{_BLANK}){_BLANK}+\Z")
# Four times what any text may have: Korean taken apart is three times as long. To put the marks on one letter in order
# takes time that grows by the square of their number, too.
LONGEST_CLEANED = 8000


def clean_text(value: object) -> object:
    """Text in NFC without unusable characters and without blanks around it; what is no text, or too long, passes."""
    if not isinstance(value, str):
        return value
    text = without_unusable(value)
    return _BLANK_EDGES.sub("", unicodedata.normalize("NFC", text)) if len(text) <= LONGEST_CLEANED else text


def without_unusable(text: str) -> str:
    """Text that can be stored and sent on."""
    return _UNUSABLE.sub("", text)


def choose_locale(question: str, *, asked: Locale | None, preferred: str | None, offered: Sequence[str]) -> Locale:
    """The language to answer in: asked for, else the user's own, else the question's, as far as offered."""
    script: Locale = "ko" if _HANGUL.search(question) else "en"
    wanted = (asked, (preferred or "")[:2].lower(), script)
    available = [locale for locale in LOCALES if locale in offered]
    return next((locale for want in wanted for locale in available if locale == want), available[0])
