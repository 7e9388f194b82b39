"""The migrations make what the models say."""

from common.testing import Database


def test_migrations_match_models(database: Database) -> None:
    database.assert_migrations_match_models("admin")
