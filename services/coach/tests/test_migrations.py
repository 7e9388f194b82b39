"""The migrations make what the models say, and fill the price table."""

from decimal import Decimal

from sqlmodel import select

from coach.models import Price
from common.db import Sessions
from common.testing import Database


def test_migrations_match_the_models(database: Database) -> None:
    database.assert_migrations_match_models("coach")


async def test_list_prices_are_there_after_the_first_migration(sessions: Sessions) -> None:
    async with sessions() as session:
        price = (await session.exec(select(Price).where(Price.model == "gpt-4o-mini"))).one()
    assert (price.input, price.cached_input, price.output) == (Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
