"""The routes of auth: sign-in and profile, public keys, and what other services ask."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Response
from fastapi.responses import StreamingResponse

from auth import revocations, service_clients, sign_in, users
from auth.deps import (
    ErasuresDep,
    GoogleDep,
    HoldersDep,
    IssuerDep,
    KeysDep,
    RevocationReader,
    SessionsDep,
    SettingsDep,
    StatsReader,
    no_store,
)
from auth.erasures import Receipt
from auth.export import export
from auth.shapes import (
    DevLogin,
    GoogleLogin,
    JWKSet,
    Logout,
    LogoutDone,
    Refresh,
    ServiceToken,
    SignedIn,
    Stats,
    TokenRequest,
    UserPublic,
    UserUpdate,
)
from common.db import SessionDep
from common.errors import problem_responses
from common.identity import CurrentUser
from common.revocations import RevocationPage

# A cache on the way must not hide a new key from verifiers until it signs (`auth.key_rotation`).
JWKS_MAX_AGE_SECONDS = 15

EXPORT_HEADERS = {"Content-Disposition": 'attachment; filename="dugout-export.json"', "Cache-Control": "no-store"}
EXPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All that is kept of you, by service. Only a document that parses is whole",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}

router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(no_store)])
development_router = APIRouter(prefix="/auth/dev", tags=["auth"], dependencies=[Depends(no_store)])
internal_router = APIRouter(prefix="/internal", tags=["internal"], dependencies=[Depends(no_store)])
keys_router = APIRouter(tags=["auth"])


@router.post("/google/login", responses=problem_responses(400, 401, 403, 422, 503))
async def google_login(
    body: GoogleLogin, sessions: SessionsDep, google: GoogleDep, issuer: IssuerDep, settings: SettingsDep
) -> SignedIn:
    """Sign in with a Google ID token; the first sign-in creates the account."""
    return await sign_in.with_google(body, sessions, google, issuer, settings)


@router.post("/refresh", responses=problem_responses(400, 401, 403, 422))
async def refresh(body: Refresh, sessions: SessionsDep, issuer: IssuerDep, settings: SettingsDep) -> SignedIn:
    """Exchange a refresh token for new tokens. Using one twice within 10 seconds is fine; later it ends the session."""
    return await sign_in.refresh(body.refresh_token, sessions, issuer, settings)


@router.post("/logout", responses=problem_responses(400, 401, 403, 422))
async def logout(body: Logout, sessions: SessionsDep) -> LogoutDone:
    """End this session, or every session of this account."""
    return await sign_in.log_out(body.refresh_token, sessions, everywhere=body.everywhere)


@router.get("/me", responses=problem_responses(401, 403))
async def read_me(caller: CurrentUser, session: SessionDep) -> UserPublic:
    """The signed-in player's profile."""
    return UserPublic.model_validate(await users.get(session, caller.id))


@router.patch("/me", responses=problem_responses(400, 401, 403, 422))
async def update_me(body: UserUpdate, caller: CurrentUser, session: SessionDep) -> UserPublic:
    """Change name or language; null clears one, leaving it out keeps it."""
    return UserPublic.model_validate(await users.update(session, caller.id, body))


@router.get("/me/export", response_class=StreamingResponse, responses=EXPORT | problem_responses(401, 503))
async def export_me(caller: CurrentUser, sessions: SessionsDep, holders: HoldersDep) -> StreamingResponse:
    """Everything that any service keeps of you, as one JSON document."""
    document = await export(caller.id, sessions, holders)
    return StreamingResponse(document, media_type="application/json", headers=EXPORT_HEADERS)


@router.delete("/me", status_code=202, responses=problem_responses(401, 403, 503))
async def delete_me(caller: CurrentUser, erasures: ErasuresDep, response: Response) -> Receipt:
    """Delete your account, and erase you from every service: at once where possible, else as soon as it is.

    This cannot be undone. All your sessions end; the reply is a receipt, and `Location` says where to read it again.
    """
    receipt = await erasures.order(caller.id)
    response.headers["Location"] = f"/auth/erasures/{receipt.id}"
    return receipt


@router.get("/erasures/{erasure_id}", responses=problem_responses(404, 422))
async def read_erasure(erasure_id: UUID, erasures: ErasuresDep) -> Receipt:
    """How far an erasure is; whoever ordered it has no token any more, and nobody else can guess its id."""
    return await erasures.receipt(erasure_id)


@development_router.post("/login", responses=problem_responses(400, 403, 422))
async def development_login(
    body: DevLogin, sessions: SessionsDep, issuer: IssuerDep, settings: SettingsDep
) -> SignedIn:
    """Sign in as anyone; exists in development only."""
    return await sign_in.for_development(body, sessions, issuer, settings)


@keys_router.get("/.well-known/jwks.json", responses=problem_responses(503))
async def public_keys(keys: KeysDep, response: Response) -> JWKSet:
    """The public keys that access tokens are signed with."""
    response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_SECONDS}"
    return JWKSet(keys=await keys.published())


@internal_router.post("/token", responses=problem_responses(400, 401, 422))
async def service_token(
    form: Annotated[TokenRequest, Form()], sessions: SessionsDep, issuer: IssuerDep
) -> ServiceToken:
    """RFC 6749 §4.4: a token with which one of our services calls another."""
    return await service_clients.grant_token(form, sessions, issuer)


@internal_router.get("/stats", responses=problem_responses(401, 403))
async def stats(_: StatsReader, session: SessionDep) -> Stats:
    """How many players there are, and how many of them pay."""
    return await users.count(session)


@internal_router.get("/revocations", responses=problem_responses(401, 403, 422))
async def revoked(
    _: RevocationReader,
    session: SessionDep,
    since: Annotated[str | None, Query(pattern=revocations.CURSOR, description="`next` of an earlier reply")] = None,
) -> RevocationPage:
    """Which access tokens are void before they expire; every process of ours asks every second."""
    return await revocations.read(session, since)
