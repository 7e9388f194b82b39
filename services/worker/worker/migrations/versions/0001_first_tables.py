"""Uploads, jobs, transcripts, summaries and the outbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "worker"


def _id(name: str = "id", *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid(), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(none_as_null=nullable), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _belongs_to(table: str, owner: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{owner}_id_{owner}"
    return sa.ForeignKeyConstraint([f"{owner}_id"], [f"{SCHEMA}.{owner}.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    _create_upload()
    _create_job()
    _create_outbox()
    _create_transcript()
    _create_summary()


def _create_upload() -> None:
    op.create_table(
        "upload",
        _id(),
        _text("fingerprint"),
        _text("kind"),
        _text("filename"),
        _text("game"),
        *(_text(name, nullable=True) for name in ("locale", "title", "source", "licence", "patch", "url")),
        _text("sha256"),
        _number("size"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        _id("uploaded_by"),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        sa.UniqueConstraint("fingerprint", name="uq_upload_fingerprint"),
        sa.CheckConstraint("kind = 'jsonl' OR locale IS NOT NULL", name=op.f("ck_upload_locale")),
        schema=SCHEMA,
    )


def _create_job() -> None:
    op.create_table(
        "job",
        _id(),
        _text("kind"),
        _text("queue"),
        _id("upload_id", nullable=True),
        _text("state"),
        _number("done"),
        _number("total", nullable=True),
        _number("attempts"),
        _json("error", nullable=True),
        _json("result", nullable=True),
        _moment("created_at"),
        _moment("started_at", nullable=True),
        _moment("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed')", name=op.f("ck_job_state")),
        _belongs_to("job", "upload"),
        schema=SCHEMA,
    )
    op.create_index("ix_job_queue_state_created_at", "job", ["queue", "state", "created_at"], schema=SCHEMA)
    op.create_index("ix_job_upload_id", "job", ["upload_id"], schema=SCHEMA)


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        _id(),
        _text("name"),
        _text("queue"),
        _json("payload"),
        _json("headers"),
        _moment("due_at"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        schema=SCHEMA,
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"], schema=SCHEMA)


def _create_transcript() -> None:
    op.create_table(
        "transcript",
        _id(),
        _id("upload_id"),
        _text("locale"),
        _number("duration_ms"),
        _json("lines"),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_transcript"),
        sa.UniqueConstraint("upload_id", name="uq_transcript_upload_id"),
        _belongs_to("transcript", "upload"),
        schema=SCHEMA,
    )


def _create_summary() -> None:
    op.create_table(
        "summary",
        _id(),
        _id("transcript_id"),
        _text("locale"),
        _text("method"),
        _text("model", nullable=True),
        _text("title"),
        _text("text"),
        _json("moments"),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_summary"),
        sa.UniqueConstraint("transcript_id", "locale", name="uq_summary_transcript_id_locale"),
        sa.CheckConstraint("method IN ('model', 'extracted')", name=op.f("ck_summary_method")),
        _belongs_to("summary", "transcript"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("summary", "transcript", "outbox", "job", "upload"):
        op.drop_table(table, schema=SCHEMA)
