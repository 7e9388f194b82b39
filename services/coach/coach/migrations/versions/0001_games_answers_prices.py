"""Games, answers with feedback, claims on idempotency keys, completions, and the first prices."""

import json
from datetime import date
from decimal import Decimal
from importlib.resources import files

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "coach"
MONEY = sa.Numeric(18, 10)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def upgrade() -> None:
    _create_game()
    _create_answer()
    _create_feedback()
    _create_claim()
    _create_completion()
    _create_price()


def _create_game() -> None:
    op.create_table(
        "game",
        _text("slug"),
        _json("titles"),
        _json("locales"),
        _text("patch"),
        _text("model", nullable=True),
        _json("parameters"),
        _text("template"),
        _flag("cross_lingual"),
        _json("context"),
        _json("sample_questions"),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("slug", name="pk_game"),
        schema=SCHEMA,
    )


def _create_answer() -> None:
    op.create_table(
        "answer",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=True),
        _text("game"),
        _text("locale"),
        _text("patch"),
        _text("question"),
        _text("answer"),
        _json("citations"),
        _flag("is_cached"),
        _text("cache"),
        sa.Column("similarity", sa.Float(), nullable=True),
        _flag("degraded"),
        _flag("covered"),
        _text("model", nullable=True),
        _text("prompt_version"),
        sa.Column("sources_as_of", sa.Date(), nullable=True),
        _number("prompt_tokens"),
        _number("cached_prompt_tokens"),
        _number("completion_tokens"),
        _flag("usage_estimated"),
        sa.Column("cost_usd", MONEY, nullable=True),
        sa.Column("saved_usd", MONEY, nullable=True),
        _number("ttft_ms", nullable=True),
        _number("latency_ms"),
        _text("trace_id", nullable=True),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_answer"),
        sa.ForeignKeyConstraint(["game"], [f"{SCHEMA}.game.slug"], name="fk_answer_game_game"),
        sa.CheckConstraint("cache IN ('miss', 'exact', 'semantic', 'shared')", name=op.f("ck_answer_cache")),
        sa.CheckConstraint("is_cached = (cache <> 'miss')", name=op.f("ck_answer_is_cached")),
        schema=SCHEMA,
    )
    op.create_index("ix_answer_user_id_id", "answer", ["user_id", "id"], schema=SCHEMA)
    op.create_index("ix_answer_created_at", "answer", ["created_at"], schema=SCHEMA)


def _create_feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("answer_id", sa.Uuid(), nullable=False),
        _text("verdict"),
        _text("comment", nullable=True),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("answer_id", name="pk_feedback"),
        sa.ForeignKeyConstraint(
            ["answer_id"], [f"{SCHEMA}.answer.id"], name="fk_feedback_answer_id_answer", ondelete="CASCADE"
        ),
        sa.CheckConstraint("verdict IN ('up', 'down', 'wrong')", name=op.f("ck_feedback_verdict")),
        schema=SCHEMA,
    )


def _create_claim() -> None:
    op.create_table(
        "claim",
        _text("owner"),
        _text("key"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=True),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_claim"),
        schema=SCHEMA,
    )
    op.create_index("ix_claim_expires_at", "claim", ["expires_at"], schema=SCHEMA)


def _create_completion() -> None:
    op.create_table(
        "completion",
        sa.Column("id", sa.Uuid(), nullable=False),
        _text("client_id"),
        _text("game"),
        _text("locale"),
        _text("text"),
        _text("model"),
        _number("prompt_tokens"),
        _number("cached_prompt_tokens"),
        _number("completion_tokens"),
        _flag("usage_estimated"),
        sa.Column("cost_usd", MONEY, nullable=True),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_completion"),
        sa.ForeignKeyConstraint(["game"], [f"{SCHEMA}.game.slug"], name="fk_completion_game_game"),
        schema=SCHEMA,
    )
    op.create_index("ix_completion_created_at", "completion", ["created_at"], schema=SCHEMA)


def _create_price() -> None:
    """US dollars per million tokens. A later price is a row more, inserted by a migration of its own."""
    price = op.create_table(
        "price",
        _text("model"),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("input", MONEY, nullable=False),
        sa.Column("cached_input", MONEY, nullable=False),
        sa.Column("output", MONEY, nullable=False),
        sa.PrimaryKeyConstraint("model", "valid_from", name="pk_price"),
        schema=SCHEMA,
    )
    rows = json.loads(files("coach").joinpath("migrations/prices-0001.json").read_text(), parse_float=Decimal)
    op.bulk_insert(price, [{**row, "valid_from": date.fromisoformat(row["valid_from"])} for row in rows])


def downgrade() -> None:
    for table in ("price", "completion", "claim", "feedback", "answer", "game"):
        op.drop_table(table, schema=SCHEMA)
