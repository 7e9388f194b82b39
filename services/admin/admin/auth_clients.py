"""What admin asks of auth for a person: users and signing keys."""

from types import NoneType
from uuid import UUID

import httpx

from admin.auth_models import Erasure, KeyList, SignedOut, SignOut, UserChange, UserDetail, UserPage, UserSearch
from common.http import call
from common.identity import ACTOR_HEADER, User


def _acting(user: User) -> dict[str, str]:
    """Auth asks who it is for, and writes the person down, not this service."""
    return {ACTOR_HEADER: user.token}


class UsersClient:
    """Users are auth's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def search(self, asked: UserSearch, viewer: User) -> UserPage:
        """A page of users."""
        body = asked.model_dump(mode="json", exclude_none=True)
        return await call(self._http, "POST", "/internal/users/search", UserPage, json=body, headers=_acting(viewer))

    async def show(self, user_id: UUID, viewer: User) -> UserDetail:
        """One user with sessions and history."""
        return await call(self._http, "GET", f"/internal/users/{user_id}", UserDetail, headers=_acting(viewer))

    async def change(self, user_id: UUID, changes: UserChange, admin: User) -> UserDetail:
        """Change role, plan or status."""
        body = changes.model_dump(exclude_none=True)
        return await call(
            self._http, "PATCH", f"/internal/users/{user_id}", UserDetail, json=body, headers=_acting(admin)
        )

    async def sign_out(self, user_id: UUID, body: SignOut, admin: User) -> SignedOut:
        """End all sessions of a user."""
        return await call(
            self._http,
            "POST",
            f"/internal/users/{user_id}/logout",
            SignedOut,
            json=body.model_dump(exclude_none=True),
            headers=_acting(admin),
        )

    async def erase(self, user_id: UUID, admin: User) -> Erasure:
        """Erase a user from every service, this one too."""
        return await call(self._http, "DELETE", f"/internal/users/{user_id}", Erasure, headers=_acting(admin))


class KeysClient:
    """Signing keys are auth's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def list(self, viewer: User) -> KeyList:
        """All keys."""
        return await call(self._http, "GET", "/internal/keys", KeyList, headers=_acting(viewer))

    async def rotate(self, admin: User) -> KeyList:
        """Publish the key that signs next."""
        return await call(self._http, "POST", "/internal/keys/rotate", KeyList, headers=_acting(admin))

    async def drop(self, kid: UUID, admin: User) -> None:
        """Drop a retired key before its time."""
        await call(self._http, "DELETE", f"/internal/keys/{kid}", NoneType, headers=_acting(admin))
