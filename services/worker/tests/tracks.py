"""Subtitle tracks made for the tests."""

from collections.abc import Iterable

ENGLISH = [
    (1_000, 3_000, "- Welcome to this guide about archers."),
    (3_000, 6_000, "Archers are strong at a distance and weak in a melee."),
    (6_000, 9_000, "[Music]"),
    (9_000, 14_000, "Attack archers with units that fight hand to hand,\nfor then they cannot shoot back."),
    (310_000, 314_000, "At night the orcs grow stronger than your archers."),
    (314_000, 319_000, "So keep your archers behind a wall of spears until the morning."),
]
KOREAN = [
    (1_000, 4_000, "이 영상에서는 궁수를 상대하는 법을 알아보겠습니다."),
    (4_000, 9_000, "궁수는 멀리서는 강하지만 근접 전투에는 아주 약합니다."),
    (9_000, 10_000, "(박수)"),
    (305_000, 309_000, "그래서 궁수는 창병 뒤에 세워 두는 것이 좋습니다."),
]


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{rest:03}"


def srt(cues: Iterable[tuple[int, int, str]]) -> str:
    """An SRT file with these cues: start and end in milliseconds, text."""
    blocks = (f"{i}\n{_clock(a)} --> {_clock(b)}\n{text}\n" for i, (a, b, text) in enumerate(cues, start=1))
    return "\n".join(blocks)


def rolling_vtt(lines: list[str]) -> str:
    """Live captions as video sites export them: two rows scroll, each line first word by word, then whole for 10 ms."""
    blocks = ["WEBVTT\nKind: captions\nLanguage: en"]
    before = " "
    for number, line in enumerate(lines):
        start = number * 2000
        first, *words = line.split()
        timed = first + "".join(f"<{_vtt(start + 300 * i)}><c> {word}</c>" for i, word in enumerate(words, start=1))
        blocks.append(f"{_vtt(start)} --> {_vtt(start + 1990)} align:start position:0%\n{before}\n{timed}")
        blocks.append(f"{_vtt(start + 1990)} --> {_vtt(start + 2000)} align:start position:0%\n{line}\n ")
        before = line
    return "\n\n".join(blocks) + "\n"


def _vtt(milliseconds: int) -> str:
    return _clock(milliseconds).replace(",", ".")
