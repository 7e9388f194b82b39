"""Tokens that look right and are not: what an attacker could send, and what only a bug of auth's could sign."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from common.testing import KEY_ID

from .forged_signatures import STRANGER, WRONG_SIGNATURES
from .forger import ABSENT, HOUR, NOW, Forger, Forgery, encoded, rs256, to_json

ATTACKER = "https://attacker.example/keys"


def _stranger_jwk() -> dict[str, str]:
    numbers = STRANGER.public_key().public_numbers()
    n, e = (encoded(number.to_bytes(-(-number.bit_length() // 8), "big")) for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "alg": "RS256", "kid": KEY_ID, "n": n, "e": e}


def _signed_by_stranger(**headers: Any) -> Forgery:
    return lambda forger: forger.by(rs256(STRANGER), headers)


def _genuine_with(**headers: Any) -> Forgery:
    return lambda forger: forger.genuine(headers)


HEADERS: dict[str, Forgery] = {
    **{
        f"kid {kid!r:.40}": _genuine_with(kid=kid)
        for kid in (
            None,
            7,
            True,
            [KEY_ID],
            {"kid": KEY_ID},
            "",
            "unknown",
            f"{KEY_ID} ",
            f"{KEY_ID}\0",
            "../../../../dev/null",
            f"{KEY_ID}' OR '1'='1",
            f"{KEY_ID}|sleep 9",
            "k" * 3000,
        )
    },
    "kid missing": _genuine_with(kid=ABSENT),
    "typ missing": _genuine_with(typ=ABSENT),
    "typ of another token": _genuine_with(typ="at+jwt"),
    "key in the token": _signed_by_stranger(jwk=_stranger_jwk()),
    "key by address": _signed_by_stranger(jku=ATTACKER),
    "certificate by address": _signed_by_stranger(x5u=ATTACKER),
    "certificate in the token": _signed_by_stranger(x5c=["MIIB"]),
    "genuine, with a key in it": lambda forger: forger.genuine({"jwk": forger.jwk}),
    "genuine, with a key's address": _genuine_with(jku=ATTACKER),
    "genuine, with a certificate's address": _genuine_with(x5u=ATTACKER),
    "genuine, with a certificate": _genuine_with(x5c=["MIIB"]),
    "genuine, with a thumbprint": _genuine_with(x5t="x"),
    "unknown crit": _genuine_with(crit=["exp"]),
    "crit of b64": _genuine_with(crit=["b64"], b64=True),
    "empty crit": _genuine_with(crit=[]),
    "crit null": _genuine_with(crit=None),
    "unencoded payload": _genuine_with(b64=False),
    "compressed": _genuine_with(zip="DEF"),
    "nested": _genuine_with(cty="JWT"),
    "encrypted": _genuine_with(enc="A256GCM"),
    "header nobody knows": _genuine_with(admin=True),
}

# Of every token.
WRONG_CLAIMS: dict[str, tuple[Any, ...]] = {
    "iss": (ABSENT, None, "", "elsewhere", "https://accounts.google.com", ["dugout"], {"dugout": 1}, 7),
    "aud": (ABSENT, None, "", "elsewhere", ["dugout"], ["auth", "coach", "rag", "worker", "admin"], {}, 7),
    "exp": (ABSENT, None, 0, -1, NOW - 60, NOW + 2 * HOUR, 10**30, NOW + 60.5, str(NOW + 60), True, [NOW + 60], "soon"),
    "iat": (ABSENT, None, NOW + HOUR, str(NOW), NOW + 0.5, True, [NOW], -(10**30)),
    "nbf": (ABSENT, None, NOW + HOUR, str(NOW), NOW + 0.5, [NOW]),
    "jti": (ABSENT, None, 7, []),
    "typ": (ABSENT, None, "", "refresh", "id", "ACCESS", ["access"], ["service"], 7),
    "sub": (ABSENT, None, "", 7, [], "a\0b", "' OR 1=1 --", "../admin", "1" * 400, "🙂", True),
}
WRONG_PLAYER_CLAIMS: dict[str, tuple[Any, ...]] = {
    "sub": ("admin", "0", "{01890000-0000-7000-8000-000000000000}", "0189000000007000800000000000000g"),
    "role": (ABSENT, None, "", "root", "Admin", "admin ", ["admin"], {"admin": True}, True, 1),
    "plan": (ABSENT, None, "", "gold", "Premium", ["premium"], 1),
    "epoch": (ABSENT, None, "0", -1, 0.5, 2**31, 2**63, 10**30, True, []),
    "sid": (ABSENT, None, "", 7, "session", "a\0b", "01890000-0000-7000-8000-00000000000G", ["x"]),
    "locale": (7, ["ko"]),
    "typ": ("service",),
}
WRONG_SERVICE_CLAIMS: dict[str, tuple[Any, ...]] = {
    "scope": (ABSENT, None, 7, ["rag:answer"], {}),
    "typ": ("access",),
}


def _claiming(name: str, value: Any) -> Forgery:
    return lambda forger: forger.genuine(claims={name: value})


def _wrong(claims: Mapping[str, tuple[Any, ...]]) -> dict[str, Forgery]:
    return {
        f"{name} {'missing' if value is ABSENT else repr(value):.40}": _claiming(name, value)
        for name, values in claims.items()
        for value in values
    }


def _payload(change: Callable[[bytes], bytes], *, keep_signature: bool = False) -> Forgery:
    """Other bytes in the payload's place, signed by auth's key or with the right payload's signature."""

    def forge(forger: Forger) -> str:
        header, _, signature = forger.genuine().split(".")
        payload = change(to_json(forger.claims))
        if keep_signature:
            return f"{header}.{encoded(payload)}.{signature}"
        return forger.written(base64.urlsafe_b64decode(header + "=="), payload, rs256(forger.key))

    return forge


def _header(header: bytes) -> Forgery:
    return lambda forger: forger.written(header, to_json(forger.claims), rs256(forger.key))


def _number(name: str, literal: str) -> Forgery:
    """Numbers that `json.dumps` would not write so."""
    return _payload(
        lambda payload: payload.replace(
            b'"%b":' % name.encode(), b'"%b":%b,"was":' % (name.encode(), literal.encode()), 1
        )
    )


CONTENTS: dict[str, Forgery] = {
    **{
        f"exp {literal}": _number("exp", literal) for literal in ("NaN", "Infinity", "-Infinity", "1e999", "1e10", "-0")
    },
    "one claim twice, signature of the first": _payload(
        lambda payload: payload[:-1] + b',"role":"admin","scope":"*"}', keep_signature=True
    ),
    "another subject, old signature": _payload(
        lambda payload: payload.replace(b'"sub":"', b'"sub":"0'), keep_signature=True
    ),
    "payload of nested lists": _payload(lambda _: b"[" * 1400 + b"]" * 1400),
    "claim of nested lists": _payload(lambda payload: payload[:-1] + b',"x":' + b"[" * 900 + b"}"),
    "payload a list": _payload(lambda payload: b"[" + payload + b"]"),
    "payload a string": _payload(lambda _: b'"admin"'),
    "payload null": _payload(lambda _: b"null"),
    "payload empty": _payload(lambda _: b"{}"),
    "payload no JSON": _payload(lambda payload: payload[:-1]),
    "payload no UTF-8": _payload(lambda payload: payload.replace(b"dugout", b"\xff\xfe")),
    "payload UTF-16": _payload(lambda payload: payload.decode().encode("utf-16")),
    "payload with a NUL": _payload(lambda payload: payload + b"\0"),
    "header of nested lists": _header(b"[" * 1500),
    "header of nested objects": _header(b'{"a":' * 400),
    "header a list": _header(b'["RS256"]'),
    "header a string": _header(b'"RS256"'),
    "header null": _header(b"null"),
    "header no JSON": _header(b"{alg:RS256}"),
    "header no UTF-8": _header(b'{"alg":"RS256","typ":"JWT","kid":"\xff"}'),
    "header's alg twice": _header(b'{"alg":"RS256","typ":"JWT","kid":"test-key","alg":"none"}'),
    "header's kid twice": _header(b'{"alg":"RS256","typ":"JWT","kid":"test-key","kid":"other"}'),
}


def _respelt(change: Callable[[str], str]) -> Forgery:
    """A true token, written in another way."""
    return lambda forger: change(forger.genuine())


def _segments(change: Callable[[list[str]], list[str]]) -> Forgery:
    return _respelt(lambda token: ".".join(change(token.split("."))))


def _next(letter: str) -> str:
    """The letter after it: where only some bits of a last letter count, another spelling of the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) + 1]


def _too_long(forger: Forger) -> str:
    return forger.genuine(claims={"padding": "x" * 4096})


SPELLINGS: dict[str, Forgery] = {
    "truncated": _respelt(lambda token: token[:-1]),
    "signature cut in half": _respelt(lambda token: token[:-171]),
    "signature missing": _segments(lambda parts: parts[:2]),
    "signature empty": _segments(lambda parts: [*parts[:2], ""]),
    "payload empty": _segments(lambda parts: [parts[0], "", parts[2]]),
    "header empty": _segments(lambda parts: ["", *parts[1:]]),
    "one segment more": _segments(lambda parts: [*parts, "x"]),
    "five segments, as of a JWE": _segments(lambda parts: [*parts, "AAAA", "AAAA"]),
    "segments in another order": _segments(lambda parts: [parts[1], parts[0], parts[2]]),
    "another token's signature": lambda forger: (
        forger.genuine().rpartition(".")[0] + "." + forger.genuine(claims={"jti": "8"}).rpartition(".")[2]
    ),
    "a letter of the header changed": _respelt(lambda token: token[0].swapcase() + token[1:]),
    "spare bits of the signature": _respelt(lambda token: token[:-1] + _next(token[-1])),
    "padding after it": _respelt(lambda token: f"{token}=="),
    "padding within it": _segments(lambda parts: [parts[0] + "=", *parts[1:]]),
    "the other base64": _respelt(lambda token: token.replace("-", "+").replace("_", "/") + "+"),
    "a space in it": _respelt(lambda token: token.replace(".", ". ", 1)),
    "a tab in its signature": _respelt(lambda token: f"{token[:-5]}\t{token[-5:]}"),
    "two of it": _respelt(lambda token: f"{token},{token}"),
    "in quotes": _respelt(lambda token: f'"{token}"'),
    "a letter of another script": _respelt(lambda token: f"{token[:-1]}\u00e9"),
    "full-width dots": _respelt(lambda token: token.replace(".", "\u00b7")),
    "too long": _too_long,
    "far too long": lambda _: "x" * 6000,
    "dots only": lambda _: "..",
    "many dots": lambda _: "." * 4000,
    "no token": lambda _: "x",
    "null": lambda _: "null",
    "JSON": lambda forger: to_json(forger.claims).decode(),
    "a refresh token": lambda _: encoded(hashlib.sha256(b"refresh").digest()),
    "Google's ID token": lambda forger: forger.by(
        rs256(STRANGER),
        {"kid": hashlib.sha1(b"google").hexdigest()},  # noqa: S324 - looks like one of theirs
    ),
}

FORGERIES = WRONG_SIGNATURES | HEADERS | _wrong(WRONG_CLAIMS) | CONTENTS | SPELLINGS
PLAYER_FORGERIES = FORGERIES | _wrong(WRONG_PLAYER_CLAIMS)
SERVICE_FORGERIES = FORGERIES | _wrong(WRONG_SERVICE_CLAIMS)
