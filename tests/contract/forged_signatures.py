"""Tokens with the right claims and the wrong signature."""

import hmac
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .forger import ABSENT, Forger, Forgery, Sign, rs256, to_json

STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _rsa(digest: hashes.HashAlgorithm) -> Callable[[Forger], Sign]:
    return lambda forger: lambda content: forger.key.sign(content, padding.PKCS1v15(), digest)


def _pss(forger: Forger) -> Sign:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    return lambda content: forger.key.sign(content, pss, hashes.SHA256())


def _es256(content: bytes) -> bytes:
    r, s = decode_dss_signature(ec.generate_private_key(ec.SECP256R1()).sign(content, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _unsigned(_: bytes) -> bytes:
    return b""


def _unsigned_as(alg: Any) -> Forgery:
    return lambda forger: forger.by(_unsigned, {"alg": alg})


def _hmac(secret: bytes, digest: str) -> Sign:
    return lambda content: hmac.new(secret, content, digest).digest()


def _by_public_key(spelling: Callable[[Forger], bytes], bits: int) -> Forgery:
    """The oldest of these tricks: a verifier that believes `alg` takes the public key for a shared secret."""
    return lambda forger: forger.by(_hmac(spelling(forger), f"sha{bits}"), {"alg": f"HS{bits}"})


_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER
_SPKI, _PKCS1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
PUBLIC_KEY_SPELLINGS: dict[str, Callable[[Forger], bytes]] = {
    "PEM": lambda forger: forger.public(_PEM, _SPKI),
    "PEM without its last newline": lambda forger: forger.public(_PEM, _SPKI).strip(),
    "PEM of PKCS1": lambda forger: forger.public(_PEM, _PKCS1),
    "DER": lambda forger: forger.public(_DER, _SPKI),
    "JWK": lambda forger: to_json(forger.jwk),
    "modulus": lambda forger: forger.jwk["n"].encode(),
}

WRONG_SIGNATURES: dict[str, Forgery] = {
    **{
        f"HS{bits} by the public {name}": _by_public_key(spelling, bits)
        for bits in (256, 384, 512)
        for name, spelling in PUBLIC_KEY_SPELLINGS.items()
    },
    **{
        f"alg {alg!r}, unsigned": _unsigned_as(alg)
        for alg in ("none", "None", "NONE", "nOnE", "", None, "RS256", ["none"], ["RS256"], {"RS256": 1})
    },
    "HS256 by an empty secret": lambda forger: forger.by(_hmac(b"", "sha256"), {"alg": "HS256"}),
    "alg none, signed": lambda forger: forger.genuine({"alg": "none"}),
    "alg missing": lambda forger: forger.genuine({"alg": ABSENT}),
    "alg in small letters": lambda forger: forger.genuine({"alg": "rs256"}),
    "RS384": lambda forger: forger.by(_rsa(hashes.SHA384())(forger), {"alg": "RS384"}),
    "RS512": lambda forger: forger.by(_rsa(hashes.SHA512())(forger), {"alg": "RS512"}),
    "SHA-1 called RS256": lambda forger: forger.by(_rsa(hashes.SHA1())(forger)),  # noqa: S303 - the forgery
    "PS256": lambda forger: forger.by(_pss(forger), {"alg": "PS256"}),
    "PSS called RS256": lambda forger: forger.by(_pss(forger)),
    "ES256": lambda forger: forger.by(_es256, {"alg": "ES256"}),
    "another key by a known name": lambda forger: forger.by(rs256(STRANGER)),
    "signature of zeros": lambda forger: forger.by(lambda _: bytes(256)),
    "signature of one byte": lambda forger: forger.by(lambda _: b"\0"),
    "signature too long": lambda forger: forger.by(lambda content: rs256(forger.key)(content) + b"\0"),
}
