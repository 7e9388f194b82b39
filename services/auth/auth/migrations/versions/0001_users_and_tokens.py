"""Users, refresh tokens, signing keys, service clients and the audit trail."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "auth"


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    _create_user()
    _create_refresh_token()
    op.create_table(
        "signing_key",
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("public_jwk", postgresql.JSONB(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_key"),
        sa.CheckConstraint("state IN ('next', 'active', 'retired')", name=op.f("ck_signing_key_state")),
        schema=SCHEMA,
    )
    # At most one key signs.
    op.create_index(
        "uq_signing_key_active",
        "signing_key",
        ["state"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "service_client",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("client_id", name="pk_service_client"),
        schema=SCHEMA,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid(), nullable=False),
        _moment("at"),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        schema=SCHEMA,
    )
    op.create_index("ix_audit_subject_at", "audit", ["subject", "at"], schema=SCHEMA)


def _create_user() -> None:
    op.create_table(
        "user",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("locale", sa.String(), nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        _moment("created_at"),
        _moment("last_login_at"),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("issuer", "subject", name="uq_user_issuer_subject"),
        sa.CheckConstraint("role IN ('player', 'viewer', 'admin')", name=op.f("ck_user_role")),
        sa.CheckConstraint("plan IN ('free', 'premium')", name=op.f("ck_user_plan")),
        sa.CheckConstraint("status IN ('active', 'banned')", name=op.f("ck_user_status")),
        schema=SCHEMA,
    )


def _create_refresh_token() -> None:
    op.create_table(
        "refresh_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("family", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        _moment("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_refresh_token"),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.user.id"], name="fk_refresh_token_user_id_user", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("token_hash", name="uq_refresh_token_token_hash"),
        schema=SCHEMA,
    )
    op.create_index("ix_refresh_token_family", "refresh_token", ["family"], schema=SCHEMA)
    op.create_index("ix_refresh_token_user_id", "refresh_token", ["user_id"], schema=SCHEMA)


def downgrade() -> None:
    for table in ("audit", "service_client", "signing_key", "refresh_token", "user"):
        op.drop_table(table, schema=SCHEMA)
