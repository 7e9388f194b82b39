"""Answers by quotation: relevant, readable, and every word from the sources."""

import re

from coach.clients import Passage
from coach.extractive import LONGEST_ANSWER, quote


def passage(title: str, text: str) -> Passage:
    locale = "ko" if re.search("[가-힣]", text) else "en"
    return Passage(document_id=title, version=1, title=title, text=text, source="s", locale=locale)


KOREAN = [
    passage("굶주림", "굶주림\n허기가 지면 체력이 회복되지 않습니다. 배고픔 표시가 떠도 바로 먹을 필요는 없습니다."),
    passage("정화의 물약", "이 물약은 독을 없앱니다. 산성 점액은 물에 들어가면 바로 씻깁니다. 값은 비쌉니다."),
    passage("두루마리", "두루마리는 불에 탑니다."),
]
ENGLISH = [
    passage("Hydra", "A hydra grows two heads for each one lost. Cutting with a flaming blade cauterises the stump."),
    passage("Trog", "Trog hates magic. Followers of Trog may not cast spells. 1. d4 Nf6 2. c4 e6 is an opening."),
]


def test_the_sentence_that_answers_is_quoted_with_its_passage() -> None:
    text, markers = quote("산성 점액 묻으면 어떻게 씻어?", KOREAN, "ko", degraded=False)
    assert markers[0] == 2
    assert "“산성 점액은 물에 들어가면 바로 씻깁니다.” [2]" in text
    assert "두루마리" not in text
    text, markers = quote("Can I cast spells while worshipping Trog?", ENGLISH, "en", degraded=False)
    assert markers == [2]
    assert "Followers of Trog may not cast spells." in text


def test_a_marker_in_a_title_is_not_taken_for_one_of_ours() -> None:
    text, markers = quote("What is a hydra?", [passage("Hydra [7]", ENGLISH[0].text)], "en", degraded=False)
    assert markers == [1]
    assert re.findall(r"\[\d\]", text) == ["[1]"]


def test_the_other_language_is_quoted_where_retrieval_put_it_first() -> None:
    shaman = passage("Elvish Shaman", "Elvish Shaman. Level 1, advances to: Elvish Druid, Elvish Sorceress.")
    troll = passage("트롤 주술사", "레벨 2, 승급: 없음. 승급에 필요한 경험치 100.")
    assert quote("엘프 샤먼은 뭘로 승급해?", [shaman, troll], "ko", degraded=False)[1] == [1]
    assert quote("엘프 샤먼은 뭘로 승급해?", [troll, shaman], "ko", degraded=False)[1] == [1]


def test_every_quoted_word_stands_in_its_passage() -> None:
    for question, passages, locale in (("배고프면 바로 먹어?", KOREAN, "ko"), ("What is a hydra?", ENGLISH, "en")):
        text, markers = quote(question, passages, locale, degraded=False)  # type: ignore[arg-type]
        for quotation, marker in re.findall(r"“(.+?)” \[(\d)\]", text):
            for sentence in quotation.split(" … "):
                assert sentence in passages[int(marker) - 1].text
        assert len(re.findall(r"“", text)) == len(markers) > 0


def test_a_question_in_another_language_gets_the_best_passage() -> None:
    text, markers = quote("히드라 머리는 어떻게 해?", ENGLISH, "ko", degraded=False)
    assert markers == [1]
    assert text.startswith("자료에 있는 내용을 그대로 옮깁니다.\n- Hydra: “A hydra grows")


def test_a_title_that_a_document_begins_with_is_not_quoted_twice() -> None:
    text, _ = quote("굶주림이 뭐야?", KOREAN[:1], "ko", degraded=False)
    assert "“굶주림" not in text


def test_degraded_says_why() -> None:
    korean, _ = quote("산성 점액?", KOREAN, "ko", degraded=True)
    english, _ = quote("Hydra?", ENGLISH, "en", degraded=True)
    assert korean.startswith("지금은 AI 모델을 사용할 수 없어")
    assert english.startswith("The AI model is not available right now.")


def test_a_passage_without_an_end_is_cut_to_a_readable_length() -> None:
    endless = [passage(f"Wall {n}", "archers shoot arrows at " * 200) for n in range(5)]
    text, markers = quote("What do archers shoot?", endless, "en", degraded=False)
    assert len(text) <= LONGEST_ANSWER
    assert 1 <= len(markers) <= 3


def test_markers_in_a_source_are_not_taken_for_ours() -> None:
    text, markers = quote("Hydra?", [passage("Hydra", "A hydra has heads [2].")], "en", degraded=False)
    assert markers == [1]
    assert "[2]" not in text


def test_a_document_that_the_question_names_comes_before_those_like_it() -> None:
    passages = [
        passage("Dune Spearguard", "Level 2. Advances to: Dune Spearmaster. A spearguard can advance a spear wall."),
        passage("Spearman (unit)", "Level 1. Advances to: Swordsman, Pikeman, Javelineer."),
    ]
    text, markers = quote("What can a Spearman advance to?", passages, "en", degraded=False)
    assert markers[0] == 2
    assert "Swordsman, Pikeman, Javelineer" in text
    korean = [passage("창병대", "창병대는 창병 셋으로 승급한다."), passage("창병", "승급: 장검병, 극창병.")]
    assert quote("창병은 뭘로 승급해?", korean, "ko", degraded=False)[1][0] == 2
