"""What routes ask for, by name."""

from typing import Annotated, cast

from cryptography.fernet import Fernet
from fastapi import Depends, Request, Response

from auth.clients import Holder
from auth.erasures import Erasures
from auth.google import Google
from auth.keys import KeyRing
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.db import Sessions
from common.identity import Service, User, require_acting_role, require_scope


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _sessions(request: Request) -> Sessions:
    return cast("Sessions", request.state.sessions)


def _keys(request: Request) -> KeyRing:
    return cast("KeyRing", request.state.keys)


def _issuer(request: Request) -> TokenIssuer:
    return cast("TokenIssuer", request.state.token_issuer)


def _encryption(request: Request) -> Fernet:
    return cast("Fernet", request.state.encryption)


def _google(request: Request) -> Google:
    return cast("Google", request.state.google)


def _erasures(request: Request) -> Erasures:
    return cast("Erasures", request.state.erasures)


def _holders(request: Request) -> list[Holder]:
    return cast("list[Holder]", request.state.holders)


def no_store(response: Response) -> None:
    """For routers whose replies are nobody else's business, caches included."""
    response.headers["Cache-Control"] = "no-store"


SettingsDep = Annotated[Settings, Depends(_settings)]
# For stories that must commit before they refuse; other routes take `common.db.SessionDep`.
SessionsDep = Annotated[Sessions, Depends(_sessions)]
KeysDep = Annotated[KeyRing, Depends(_keys)]
EncryptionDep = Annotated[Fernet, Depends(_encryption)]
IssuerDep = Annotated[TokenIssuer, Depends(_issuer)]
ErasuresDep = Annotated[Erasures, Depends(_erasures)]
HoldersDep = Annotated[list[Holder], Depends(_holders)]
GoogleDep = Annotated[Google, Depends(_google)]
RevocationReader = Annotated[Service, Depends(require_scope("auth:revocations"))]
StatsReader = Annotated[Service, Depends(require_scope("auth:read"))]
KeysAdmin = Annotated[Service, Depends(require_scope("auth:keys"))]
UsersAdmin = Annotated[Service, Depends(require_scope("auth:users"))]
# The person for whom admin calls, by their own token.
ActingViewer = Annotated[User, Depends(require_acting_role("viewer", "admin"))]
ActingAdmin = Annotated[User, Depends(require_acting_role("admin"))]
