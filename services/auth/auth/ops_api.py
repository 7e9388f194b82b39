"""The routes of auth that ops use through the admin service: signing keys and accounts."""

from uuid import UUID

from fastapi import APIRouter, Depends

from auth import key_rotation, user_changes, user_search
from auth.deps import ActingAdmin, ActingViewer, EncryptionDep, ErasuresDep, KeysAdmin, UsersAdmin, no_store
from auth.erasures import Receipt
from auth.ops_shapes import KeyList, SignedOut, SignOut, UserChange, UserDetail, UserPage, UserSearch
from common.db import SessionDep
from common.errors import problem_responses

router = APIRouter(
    prefix="/internal", tags=["internal"], dependencies=[Depends(no_store)], responses=problem_responses(401, 403)
)


@router.get("/keys")
async def list_keys(_: KeysAdmin, __: ActingViewer, session: SessionDep) -> KeyList:
    """The signing keys, without their private halves."""
    await key_rotation.advance(session)
    return await key_rotation.read_keys(session)


@router.post("/keys/rotate", status_code=202)
async def rotate_keys(_: KeysAdmin, admin: ActingAdmin, session: SessionDep, encryption: EncryptionDep) -> KeyList:
    """Publish a new key, which signs in a minute; while one waits this changes nothing."""
    await key_rotation.start(session, encryption, admin.id)
    return await key_rotation.read_keys(session)


@router.delete("/keys/{kid}", status_code=204, responses=problem_responses(404, 409, 422))
async def drop_key(kid: UUID, _: KeysAdmin, admin: ActingAdmin, session: SessionDep) -> None:
    """Drop a retired key, which somebody else may have, before its time."""
    await key_rotation.drop(session, str(kid), admin.id)


@router.post("/users/search", responses=problem_responses(400, 422))
async def search_users(body: UserSearch, _: UsersAdmin, __: ActingViewer, session: SessionDep) -> UserPage:
    """Accounts that match all that is asked, newest first."""
    return await user_search.find(session, body)


@router.get("/users/{user_id}", responses=problem_responses(404, 422))
async def show_user(user_id: UUID, _: UsersAdmin, __: ActingViewer, session: SessionDep) -> UserDetail:
    """One account with its live sessions and its history."""
    return await user_search.show(session, user_id)


@router.patch("/users/{user_id}", responses=problem_responses(400, 404, 409, 422))
async def change_user(
    user_id: UUID, body: UserChange, _: UsersAdmin, admin: ActingAdmin, session: SessionDep
) -> UserDetail:
    """Change role, plan or status; tokens that say otherwise are void within seconds."""
    await user_changes.change(session, user_id, body, admin.id)
    return await user_search.show(session, user_id)


@router.post("/users/{user_id}/logout", responses=problem_responses(400, 404, 409, 422))
async def sign_user_out(
    user_id: UUID, body: SignOut, _: UsersAdmin, admin: ActingAdmin, session: SessionDep
) -> SignedOut:
    """End all sessions of an account."""
    return await user_changes.sign_out(session, user_id, body.reason, admin.id)


@router.delete("/users/{user_id}", status_code=202, responses=problem_responses(404, 409, 422))
async def erase_user(user_id: UUID, _: UsersAdmin, admin: ActingAdmin, erasures: ErasuresDep) -> Receipt:
    """Erase somebody who cannot do it themselves: they are banned, or have lost their sign-in."""
    if user_id == admin.id:
        raise user_changes.OwnAccountError
    return await erasures.order(user_id, by=admin.id)
