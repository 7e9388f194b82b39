"""What routes may ask for."""

from typing import Annotated, cast

from fastapi import Depends, Request, Response

from admin.auth_clients import KeysClient, UsersClient
from admin.clients import AuthClient, CoachClient, RagClient, WorkerClient
from admin.settings import Settings
from common.db import Sessions
from common.identity import User, require_role


def no_store(response: Response) -> None:
    """What ops see is for nobody's cache."""
    response.headers["Cache-Control"] = "no-store"


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _sessions(request: Request) -> Sessions:
    return cast("Sessions", request.state.sessions)


def _auth(request: Request) -> AuthClient:
    return cast("AuthClient", request.state.auth)


def _users(request: Request) -> UsersClient:
    return cast("UsersClient", request.state.users)


def _keys(request: Request) -> KeysClient:
    return cast("KeysClient", request.state.keys)


def _coach(request: Request) -> CoachClient:
    return cast("CoachClient", request.state.coach)


def _rag(request: Request) -> RagClient:
    return cast("RagClient", request.state.rag)


def _worker(request: Request) -> WorkerClient:
    return cast("WorkerClient", request.state.worker)


SettingsDep = Annotated[Settings, Depends(_settings)]
# For the audit, whose rows are committed apart from each other.
SessionsDep = Annotated[Sessions, Depends(_sessions)]
AuthDep = Annotated[AuthClient, Depends(_auth)]
UsersDep = Annotated[UsersClient, Depends(_users)]
KeysDep = Annotated[KeysClient, Depends(_keys)]
CoachDep = Annotated[CoachClient, Depends(_coach)]
RagDep = Annotated[RagClient, Depends(_rag)]
WorkerDep = Annotated[WorkerClient, Depends(_worker)]
Viewer = Annotated[User, Depends(require_role("viewer", "admin"))]
Admin = Annotated[User, Depends(require_role("admin"))]
