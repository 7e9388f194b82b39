"""Changes to games, each with its row in the audit."""

from admin.audit import audited
from admin.clients import CoachClient
from admin.models import GameSettings
from common.db import Sessions
from common.identity import User


async def put(slug: str, game: GameSettings, admin: User, sessions: Sessions, coach: CoachClient) -> GameSettings:
    """Create or replace a game."""
    before = next((known for known in await coach.games() if known.get("slug") == slug), None)
    async with audited(sessions, admin, "game.put", slug, before) as entry:
        entry.after = await coach.put_game(slug, game, admin)
    return entry.after
