"""The ops API of what auth holds: users and signing keys. Viewers read, admins also change."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from admin import keys, users
from admin.auth_models import Erasure, KeyList, SignedOut, SignOut, UserChange, UserDetail, UserPage, UserSearch
from admin.deps import Admin, KeysDep, SessionsDep, UsersDep, Viewer, no_store
from common.errors import problem_responses

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    dependencies=[Depends(no_store)],
    responses=problem_responses(401, 403, 422, 502, 503, 504),
)


@router.get("/users")
async def list_users(viewer: Viewer, client: UsersDep, asked: Annotated[UserSearch, Query()]) -> UserPage:
    """Users, newest first, found by id, the beginning of the address, a part of the name, role, plan or status."""
    return await client.search(asked, viewer)


@router.get("/users/{user_id}", responses=problem_responses(404))
async def read_user(user_id: UUID, viewer: Viewer, client: UsersDep) -> UserDetail:
    """A user with their live sessions and what was done to them."""
    return await client.show(user_id, viewer)


@router.patch("/users/{user_id}", responses=problem_responses(400, 404, 409))
async def change_user(
    user_id: UUID, body: UserChange, admin: Admin, sessions: SessionsDep, client: UsersDep
) -> UserDetail:
    """Change role or plan, ban or unban; it holds everywhere within seconds. Nobody demotes or bans themselves."""
    return await users.change(user_id, body, admin, sessions, client)


@router.post("/users/{user_id}/logout", responses=problem_responses(400, 404, 409))
async def sign_user_out(
    user_id: UUID, admin: Admin, sessions: SessionsDep, client: UsersDep, body: SignOut | None = None
) -> SignedOut:
    """End all sessions of a user; they can sign in again."""
    return await users.sign_out(user_id, body or SignOut(), admin, sessions, client)


@router.delete("/users/{user_id}", status_code=202, responses=problem_responses(404, 409))
async def erase_user(user_id: UUID, admin: Admin, sessions: SessionsDep, client: UsersDep) -> Erasure:
    """Erase somebody who asked for it and cannot sign in, from every service; it cannot be undone."""
    return await users.erase(user_id, admin, sessions, client)


@router.get("/keys")
async def list_keys(viewer: Viewer, client: KeysDep) -> KeyList:
    """The keys that sign tokens, and when the next step of a rotation is due."""
    return await client.list(viewer)


@router.post("/keys/rotate", status_code=202)
async def rotate_keys(admin: Admin, sessions: SessionsDep, client: KeysDep) -> KeyList:
    """Publish a new key, which signs in a minute; while one waits this changes nothing."""
    return await keys.rotate(admin, sessions, client)


@router.delete("/keys/{kid:uuid}", status_code=204, responses=problem_responses(404, 409))
async def drop_key(kid: UUID, admin: Admin, sessions: SessionsDep, client: KeysDep) -> None:
    """Drop a retired key, which somebody else may have, before its time: its tokens are void within a minute."""
    await keys.drop(kid, admin, sessions, client)
