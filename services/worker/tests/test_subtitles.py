"""Tracks become what was said, each line once, with its times."""

import pytest

from worker.parse import DocumentTooLongError, EmptyDocumentError
from worker.subtitles import Line, NotSubtitlesError, cut, parse_subtitles, windows

from .tracks import ENGLISH, KOREAN, rolling_vtt, srt


def test_lines_keep_their_times_and_lose_marks_and_sounds() -> None:
    lines = parse_subtitles(srt(ENGLISH))
    assert lines[0] == Line(1_000, 3_000, "Welcome to this guide about archers.")
    assert lines[2] == Line(
        9_000, 14_000, "Attack archers with units that fight hand to hand, for then they cannot shoot back."
    )
    assert "Music" not in " ".join(line.text for line in lines)


def test_korean_lines_are_read_alike() -> None:
    lines = parse_subtitles(srt(KOREAN))
    assert [line.start_ms for line in lines] == [1_000, 4_000, 305_000]
    assert lines[1].text == "궁수는 멀리서는 강하지만 근접 전투에는 아주 약합니다."


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<i>Run!</i> [door slams] Now.", "Run! Now."),
        ("♪ la la ♪ (that is an aside) fine", "la la (that is an aside) fine"),
        (">> MERLIN: go\n- and  you?", "MERLIN: go and you?"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
    ],
)
def test_markup_is_dropped_and_words_stay(written: str, said: str) -> None:
    assert parse_subtitles(srt([(0, 1_000, written)])) == [Line(0, 1_000, said)]


def test_rolling_captions_say_each_line_once() -> None:
    said = [f"this is what line number {i} says" for i in range(12)]
    lines = parse_subtitles(rolling_vtt(said))
    assert [line.text for line in lines] == said
    assert [line.start_ms for line in lines] == [2000 * i for i in range(12)]


def test_a_refrain_in_an_ordinary_track_stays() -> None:
    cues = [
        (0, 1_000, "Charge!"),
        (1_000, 2_000, "Charge!"),
        *((i * 1000, i * 1000 + 900, f"Line {i}") for i in range(2, 9)),
    ]
    assert [line.text for line in parse_subtitles(srt(cues))][:2] == ["Charge!", "Charge!"]


def test_notes_styles_and_cue_names_of_webvtt_are_no_speech() -> None:
    track = (
        "WEBVTT - a guide\n\nSTYLE\n::cue { color: red }\n\nNOTE never shown\n\n"
        "intro\n00:01.000 --> 00:02.000 line:0\n<v Merlin>Hello.\n\nNOTE\nnor this\n\n2\n00:03.000 --> 00:04.000\nBye."
    )
    assert parse_subtitles(track) == [Line(1_000, 2_000, "Hello."), Line(3_000, 4_000, "Bye.")]


def test_cues_out_of_order_are_sorted() -> None:
    assert [line.text for line in parse_subtitles(srt([(5_000, 6_000, "two"), (1_000, 2_000, "one")]))] == [
        "one",
        "two",
    ]


def test_other_files_are_refused() -> None:
    with pytest.raises(NotSubtitlesError):
        parse_subtitles("just a text")
    with pytest.raises(NotSubtitlesError):
        parse_subtitles(srt([(0, 1_000, "word " * 1_000)]))
    with pytest.raises(EmptyDocumentError):
        parse_subtitles(srt([(0, 1_000, "[Music]")]))
    with pytest.raises(DocumentTooLongError):
        parse_subtitles(srt((i * 1000, i * 1000 + 900, f"{i} " + "word " * 100) for i in range(1_100)))


@pytest.mark.parametrize("times", [":00:01.000 --> :00:02.000", "9999:00:01.000 --> 9999:00:02.000"])
def test_times_that_no_recording_has_are_refused(times: str) -> None:
    with pytest.raises(NotSubtitlesError):
        parse_subtitles(f"WEBVTT\n\n{times}\nHello.")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("filler", ["\n", " ", "\n ", "\t\n"])
def test_a_long_run_of_nothing_is_read_at_once(filler: str) -> None:
    (line,) = parse_subtitles(srt([(0, 1_000, f"a {filler * 100_000} < b")]))
    assert line.text == "a < b"


def test_pieces_end_with_sentences_and_lose_nothing() -> None:
    lines = [Line(i * 1000, i * 1000 + 900, f"part {i} of it" + ("." if i % 4 == 3 else ",")) for i in range(100)]
    pieces = cut(lines, 200)
    assert " ".join(piece.text for piece in pieces) == " ".join(line.text for line in lines)
    assert all(len(piece.text) <= 200 and piece.text.endswith(".") for piece in pieces)
    assert [piece.start_ms for piece in pieces[1:]] == [before.end_ms + 100 for before in pieces[:-1]]


def test_silence_makes_no_window() -> None:
    lines = [Line(0, 1, "a"), Line(299_999, 300_500, "b"), Line(900_000, 900_001, "c")]
    assert windows(lines, 300) == [lines[:2], lines[2:]]
