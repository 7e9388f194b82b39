"""Revocations, stages of signing keys, erasures, and marks of erased accounts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "revocation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sid", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        _moment("at"),
        sa.PrimaryKeyConstraint("id", name="pk_revocation"),
        schema=SCHEMA,
    )
    op.create_index("ix_revocation_at_id", "revocation", ["at", "id"], schema=SCHEMA)
    op.create_index("ix_refresh_token_expires_at", "refresh_token", ["expires_at"], schema=SCHEMA)
    op.create_table(
        "erasure",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("services", postgresql.JSONB(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _moment("requested_at"),
        _moment("due_at"),
        _moment("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_erasure"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_erasure_due_at", "erasure", ["due_at"], schema=SCHEMA, postgresql_where=sa.text("sealed IS NOT NULL")
    )
    op.create_table(
        "erased_identity",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("banned", sa.Boolean(), nullable=False),
        _moment("at"),
        sa.PrimaryKeyConstraint("digest", name="pk_erased_identity"),
        schema=SCHEMA,
    )
    op.create_index("ix_audit_actor", "audit", ["actor"], schema=SCHEMA)
    op.create_index("ix_user_email", "user", ["email"], schema=SCHEMA, postgresql_ops={"email": "text_pattern_ops"})
    # With a default, so that the version before this one can still insert.
    op.add_column(
        "signing_key",
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_signing_key_next",
        "signing_key",
        ["state"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'next'"),
    )


def downgrade() -> None:
    op.drop_index("ix_refresh_token_expires_at", "refresh_token", schema=SCHEMA)
    op.drop_index("uq_signing_key_next", "signing_key", schema=SCHEMA)
    op.drop_column("signing_key", "state_since", schema=SCHEMA)
    op.drop_index("ix_user_email", "user", schema=SCHEMA)
    op.drop_index("ix_audit_actor", "audit", schema=SCHEMA)
    for table in ("erased_identity", "erasure", "revocation"):
        op.drop_table(table, schema=SCHEMA)
