"""No two different scopes share a key."""

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rag.scope import digest, scope_of
from rag.shapes import Retrieval

# Few short strings made of what a careless join would trip over, so that near-collisions are tried often.
words = st.text("a|:1 ,=", min_size=0, max_size=4)
scopes = st.fixed_dictionaries(
    {
        "game": st.sampled_from(["a", "a1", "1a"]),
        "locale": st.sampled_from(["ko", "en"]),
        "patch": words,
        "prompt_version": words,
        "model": words,
        "context": st.dictionaries(words, words, max_size=3),
        "cross_lingual": st.booleans(),
        "top_k": st.sampled_from([1, 11]),
        "generation": st.sampled_from([1, 11]),
        "embedding_model": words,
    }
)


def scope(fields: dict[str, Any]) -> str:
    own = {name: value for name, value in fields.items() if name not in ("generation", "embedding_model")}
    wanted = Retrieval.model_validate({**own, "question": "same question"})
    return scope_of(wanted, generation=fields["generation"], embedding_model=fields["embedding_model"])


@settings(max_examples=1_000, deadline=None)
@given(one=scopes, other=scopes)
def test_different_scopes_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    assume(one != other)
    assert scope(one) != scope(other)


@settings(max_examples=300, deadline=None)
@given(scopes, st.sampled_from(["patch", "prompt_version", "model", "embedding_model"]), words)
def test_changing_one_field_changes_the_key(fields: dict[str, Any], name: str, value: str) -> None:
    assume(fields[name] != value)
    assert scope(fields) != scope(fields | {name: value})


@given(st.lists(words), st.lists(words))
def test_lists_of_fields_collide_only_if_equal(one: list[str], other: list[str]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


def test_the_order_of_the_context_does_not_matter() -> None:
    shared = {"patch": "1", "prompt_version": "p", "model": "m", "game": "a", "locale": "ko", "cross_lingual": True}
    fields = {**shared, "top_k": 5, "generation": 1, "embedding_model": "e"}
    one, other = {"side": "attack", "rank": "gold"}, {"rank": "gold", "side": "attack"}
    assert scope(fields | {"context": one}) == scope(fields | {"context": other})
