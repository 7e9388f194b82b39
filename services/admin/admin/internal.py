"""Routes for auth alone: what is held of a person. Never routed by the gateway."""

from uuid import UUID

from fastapi import APIRouter, Depends

from admin import privacy
from common.db import SessionDep
from common.errors import problem_responses
from common.identity import require_scope

router = APIRouter(
    prefix="/internal/users",
    tags=["internal"],
    dependencies=[Depends(require_scope("admin:privacy"))],
    responses=problem_responses(401, 403, 422, 503),
)


@router.get("/{user_id}/export")
async def export_user(user_id: UUID, session: SessionDep, cursor: UUID | None = None) -> privacy.ExportPage:
    """A page of all that is kept of a person."""
    return await privacy.export_page(session, user_id, cursor)


@router.post("/{user_id}/erase", status_code=204)
async def erase_user(user_id: UUID, body: privacy.Erase, session: SessionDep) -> None:
    """Erase a person; a repetition does nothing more."""
    await privacy.erase(session, user_id, body.pseudonym)
