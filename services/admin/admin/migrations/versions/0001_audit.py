"""The audit trail."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "admin"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("before", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("after", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.CheckConstraint("outcome IN ('started', 'done', 'failed')", name=op.f("ck_audit_outcome")),
        schema=SCHEMA,
    )
    op.create_index("ix_audit_target_at", "audit", ["target", "at"], schema=SCHEMA)
    op.create_index("ix_audit_actor_id_at", "audit", ["actor_id", "at"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("audit", schema=SCHEMA)
