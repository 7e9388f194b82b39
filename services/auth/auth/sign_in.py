"""Signing in, staying signed in and signing out, each as one story."""

from uuid import UUID

from auth import erased_identities, google, refresh_tokens, users
from auth.google import Google
from auth.models import User
from auth.refresh_tokens import InvalidRefreshTokenError
from auth.settings import Settings
from auth.shapes import DevLogin, GoogleLogin, LogoutDone, SignedIn, UserPublic
from auth.tokens import TokenIssuer
from common.db import Sessions

DEV_ISSUER = "dugout:development"


async def with_google(
    login: GoogleLogin, sessions: Sessions, verifier: Google, issuer: TokenIssuer, settings: Settings
) -> SignedIn:
    """Sign in as the account that Google vouches for; the first time makes it."""
    account = await verifier.verify(login)
    async with sessions.begin() as session:
        user = await users.find_or_create(
            session,
            issuer=google.ISSUER,
            subject=account.subject,
            email=account.verified_email,
            name=account.display_name,
            locale=account.locale,
        )
        await erased_identities.refuse_banned(session, settings.erasure_key, user)
        if user.email in settings.admin_emails:
            await users.grant(session, user, role="admin", by="environment")
        family, refresh = refresh_tokens.start_family(session, user, settings.refresh_lifetime)
    return _signed_in(issuer, user, family, refresh)


async def for_development(login: DevLogin, sessions: Sessions, issuer: TokenIssuer, settings: Settings) -> SignedIn:
    """Sign in as anyone, with any role and plan."""
    email = login.email.lower()
    async with sessions.begin() as session:
        user = await users.find_or_create(session, issuer=DEV_ISSUER, subject=email, email=email)
        await erased_identities.refuse_banned(session, settings.erasure_key, user)
        await users.grant(session, user, role=login.role, plan=login.plan, by="development")
        family, refresh = refresh_tokens.start_family(session, user, settings.refresh_lifetime)
    return _signed_in(issuer, user, family, refresh)


async def refresh(presented: str, sessions: Sessions, issuer: TokenIssuer, settings: Settings) -> SignedIn:
    """Exchange a refresh token for new tokens; raises InvalidRefreshTokenError, AccountBannedError."""
    async with sessions.begin() as session:
        redeemed = await refresh_tokens.redeem(session, presented)
        if redeemed and redeemed.user.issuer == DEV_ISSUER and settings.env != "development":
            redeemed = None  # anyone may have made that account, as an admin too, while the database was a developer's
        if redeemed:
            following = refresh_tokens.rotate(session, redeemed, settings.refresh_lifetime)
    # Raised out here, because inside it would roll back the end of a family whose token was replayed.
    if not redeemed:
        raise InvalidRefreshTokenError
    return _signed_in(issuer, redeemed.user, redeemed.token.family, following)


async def log_out(presented: str, sessions: Sessions, *, everywhere: bool) -> LogoutDone:
    """End the session of a refresh token, or all of its owner's; raises InvalidRefreshTokenError."""
    async with sessions.begin() as session:
        redeemed = await refresh_tokens.redeem(session, presented)
        if redeemed and everywhere:
            await refresh_tokens.end_all(session, redeemed)
        elif redeemed:
            await refresh_tokens.end_family(session, redeemed)
    if not redeemed:
        raise InvalidRefreshTokenError
    return LogoutDone(ended="everywhere" if everywhere else "session")


def _signed_in(issuer: TokenIssuer, user: User, session_id: UUID, refresh_token: str) -> SignedIn:
    return SignedIn(
        access_token=issuer.for_user(user, session_id),
        refresh_token=refresh_token,
        expires_in=issuer.lifetime_seconds,
        user=UserPublic.model_validate(user),
    )
