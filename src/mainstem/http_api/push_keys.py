"""The JSON of the keys by which tokens of pushed events are verified.

Owns: the fields of the JWKS (RFC 7517) and of the description of the issuer (OpenID Connect Discovery 1.0).
Refuses: private keys.
"""

from __future__ import annotations

import msgspec


class TokenKeyJson(msgspec.Struct):
    """A public key (RFC 7517, RFC 7518)."""

    kty: str
    crv: str
    x: str
    y: str
    alg: str
    kid: str
    use: str


class TokenKeysJson(msgspec.Struct):
    """A JWKS."""

    keys: list[TokenKeyJson]


class TokenIssuerJson(msgspec.Struct):
    """The description of an issuer. It has no addresses for logging in."""

    issuer: str
    jwks_uri: str
    id_token_signing_alg_values_supported: list[str]
    claims_supported: list[str]
    response_types_supported: list[str]
    subject_types_supported: list[str]
