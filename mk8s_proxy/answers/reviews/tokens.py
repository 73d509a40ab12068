"""Tokens of mk8s inside documents of others: found, and judged; pure. Called by `token_review`.

A token is recognised by the issuer it names, signed well or not, expired or not: what was a key to
this central is none of a cluster's business. The issuer is read from the caller's own token, which
has just been verified; a service token names none, so that whatever was made for mk8s is ours then.

This guards against tools that mean well. Somebody who wants to hand their own token to a cluster
can write it into any object.
"""

import binascii
import hmac
import re
from typing import Any, Final

import orjson

from mk8s_proxy.answers.reviews.documents import DocumentError
from mk8s_proxy.identity.identity import EVERYBODY, Identity
from mk8s_proxy.kube.protobuf import Message

PLACEHOLDER: Final = "kept-by-mk8s"
"""What a cluster gets to see instead of a token of mk8s."""

NOT_THE_CALLERS: Final = "mk8s: only the token that the request itself was sent with is reviewed"
OTHER_AUDIENCE: Final = "mk8s: the token was not made for any of these audiences"

_AUTHENTICATED: Final = "system:authenticated"
"""The group that the agent adds for everybody (`mk8s_agent.apiserver.impersonation`)."""

_SEGMENT: Final = re.compile(rb"eyJ[A-Za-z0-9_-]+")
"""A part of a JWT: base64url of what begins as a JSON object."""

_OPAQUE: Final = re.compile(rb"mk8s_[a-z]{2}_")
"""How refresh tokens, join tokens and service tokens begin."""

_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


class OwnTokens:
    """What the caller's central has issued.

    Args:
        authorization: the caller's, `Bearer <token>`, verified.
        audience: for whom access tokens are made.
    """

    def __init__(self, authorization: bytes, audience: str) -> None:
        self._callers = authorization.partition(b" ")[2]
        self._audience = audience
        self._issuers = frozenset(_texts("iss", self._callers))

    def is_callers(self, token: str) -> bool:
        """Whether it is the very token of this request."""
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._callers)

    def are_in(self, text: bytes) -> bool:
        """Whether a token of this central is in there, in whatever surroundings."""
        if self._callers in text or _OPAQUE.search(text):
            return True
        if not self._issuers:
            return self._audience in _texts("aud", text)
        return not self._issuers.isdisjoint(_texts("iss", text))


def _texts(claim: str, text: bytes) -> list[str]:
    """What the claim says in everything that looks like the claims of a token."""
    found = [_claims(segment).get(claim) for segment in _SEGMENT.findall(text)]
    return [value for value in found if isinstance(value, str)]


def _claims(segment: bytes) -> dict[str, Any]:
    padded = segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4)
    try:
        claims = orjson.loads(binascii.a2b_base64(padded))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def token_of(review: Message) -> str:
    """The token that a TokenReview asks about, "" if there is none.

    Raises:
        DocumentError: the review is none.
    """
    spec = review.get("spec") or {}
    token = spec.get("token") or "" if isinstance(spec, dict) else None
    if not isinstance(token, str):
        raise DocumentError("no spec with a token")
    return token


def with_token(review: Message, token: str) -> Message:
    """The same review about another token."""
    return {**review, "spec": {**(review.get("spec") or {}), "token": token}}


def token_status(
    review: Message,
    identity: Identity,
    audience: str,
    *,
    callers: bool,
    roles: tuple[str, ...] = (),
) -> Message:
    """What a TokenReview about a token of mk8s says.

    Args:
        review: the question.
        identity: as whom the caller acts.
        audience: for whom access tokens are made.
        callers: whether the token is the one of this request, so that it is valid here and now.
        roles: the groups of roles with which the caller goes into the cluster.

    Raises:
        DocumentError: the audiences are no list of words.
    """
    audiences = review["spec"].get("audiences") or []
    if not isinstance(audiences, list):
        raise DocumentError("audiences is no list")
    if not callers:
        return {"authenticated": False, "user": {}, "error": NOT_THE_CALLERS}
    if audiences and audience not in audiences:
        return {"authenticated": False, "user": {}, "error": OTHER_AUDIENCE}
    who = identity.original or identity
    told = (*EVERYBODY, *roles) if identity is who else EVERYBODY
    groups = [*told, _AUTHENTICATED]
    user = {"username": who.user, "uid": who.uid, "groups": groups}
    status: Message = {"authenticated": True, "user": user}
    if audiences:
        status["audiences"] = [audience]
    return status
