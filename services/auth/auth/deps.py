"""What routes ask for, by name."""

from typing import Annotated, cast

from fastapi import Depends, Request

from auth.google import Google
from auth.keys import KeyRing
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.db import Sessions
from common.identity import Service, require_scope


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _sessions(request: Request) -> Sessions:
    return cast("Sessions", request.state.sessions)


def _keys(request: Request) -> KeyRing:
    return cast("KeyRing", request.state.keys)


def _issuer(request: Request) -> TokenIssuer:
    return cast("TokenIssuer", request.state.token_issuer)


def _google(request: Request) -> Google:
    return cast("Google", request.state.google)


SettingsDep = Annotated[Settings, Depends(_settings)]
# For stories that must commit before they refuse; other routes take `common.db.SessionDep`.
SessionsDep = Annotated[Sessions, Depends(_sessions)]
KeysDep = Annotated[KeyRing, Depends(_keys)]
IssuerDep = Annotated[TokenIssuer, Depends(_issuer)]
GoogleDep = Annotated[Google, Depends(_google)]
StatsReader = Annotated[Service, Depends(require_scope("auth:read"))]
