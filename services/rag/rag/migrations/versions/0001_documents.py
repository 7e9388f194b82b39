"""Documents, their chunks with vectors, and generations."""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "rag"


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "embedding_model",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("name", name="pk_embedding_model"),
        schema=SCHEMA,
    )
    op.create_table(
        "generation",
        sa.Column("game", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("game", name="pk_generation"),
        schema=SCHEMA,
    )
    _create_document()
    _create_chunk()


def _create_document() -> None:
    op.create_table(
        "document",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("game", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("patch", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("licence", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("embedding_model", sa.String(), nullable=False),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_document"),
        sa.UniqueConstraint("game", "key", name="uq_document_game_key"),
        sa.ForeignKeyConstraint(
            ["embedding_model"], ["rag.embedding_model.name"], name="fk_document_embedding_model_embedding_model"
        ),
        schema=SCHEMA,
    )


def _create_chunk() -> None:
    op.create_table(
        "chunk",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("game", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("start_ms", sa.Integer(), nullable=True),
        sa.Column("end_ms", sa.Integer(), nullable=True),
        sa.Column("embedding_model", sa.String(), nullable=False),
        sa.Column("embedding", HALFVEC(384), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chunk"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["rag.document.id"], name="fk_chunk_document_id_document", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["embedding_model"], ["rag.embedding_model.name"], name="fk_chunk_embedding_model_embedding_model"
        ),
        schema=SCHEMA,
    )
    op.create_index("ix_chunk_document_id", "chunk", ["document_id"], schema=SCHEMA)
    op.create_index("ix_chunk_game_locale", "chunk", ["game", "locale"], schema=SCHEMA)
    op.create_index(
        "ix_chunk_embedding",
        "chunk",
        ["embedding"],
        schema=SCHEMA,
        postgresql_using="hnsw",
        postgresql_with={"m": 16, "ef_construction": 64},
        postgresql_ops={"embedding": "halfvec_cosine_ops"},
    )


def downgrade() -> None:
    for table in ("chunk", "document", "generation", "embedding_model"):
        op.drop_table(table, schema=SCHEMA)
