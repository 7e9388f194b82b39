"""The schema as migrated and as declared."""

from common.testing import Database


def test_migrations_make_what_the_models_declare(database: Database) -> None:
    database.assert_migrations_match_models("rag")
