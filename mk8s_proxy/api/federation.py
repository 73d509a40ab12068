"""Workload federation: rules for admins, and the exchange of a job's token (RFC 8693).

A job shows a token that its CI service or cluster made for it. Where rules match its claims it gets
an access token that lives as long as the shown one does, an hour at most, and cannot be renewed.
"""

import binascii
import datetime
import json
import uuid
from collections.abc import Sequence
from typing import Any, Final

from mk8s_proxy.api import federation_schemas as schemas
from mk8s_proxy.api.bodies import FORM, INVALID_REQUEST
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint, as_federated, too_many
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.authz.policy import PolicyError, parse_group_name
from mk8s_proxy.db import federation, logins
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.federation import RuleRecord, WantedRule
from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.federation import (
    GROUP_PREFIX,
    LONGEST_TOKEN,
    RuleRefused,
    check_claims,
    matches,
    uid_of,
    user_of,
)
from mk8s_proxy.identity.identity import MOST_GROUP_BYTES, MOST_GROUPS, Login, Unauthenticated
from mk8s_proxy.identity.oidc.claims import subject_of
from mk8s_proxy.identity.oidc.errors import Refused, Unreachable
from mk8s_proxy.identity.oidc.id_token import Expected
from mk8s_proxy.identity.oidc.token_issuer import TokenIssuer
from mk8s_proxy.identity.throttle import Throttled, source_key
from mk8s_proxy.settings.login import FederationSettings

_INVALID_GRANT: Final = "invalid_grant"
_SHORTEST_SECONDS: Final = 1
_STRANGER: Final = "(a job)"
"""Who asks before the token is known to be good."""


async def list_federation_rules(call: Call) -> Model:
    """List the rules by which jobs are let in."""
    rules = await federation.list_rules(call.context.database)
    return schemas.FederationRuleList(rules=[_shown(rule) for rule in rules])


async def put_federation_rule(call: Call) -> Versioned:
    """Make a rule or replace it. Logins end where it asks for something else than before."""
    body, context = call.read(schemas.FederationRuleRequest), call.context
    wanted = _wanted(call, body)
    try:
        rule, ended = await federation.put_rule(
            context.database, wanted, context.now(), call.condition
        )
    except NotFound as error:
        raise ApiError.invalid("roles", str(error)) from None
    await _follow(call, ended)
    return Versioned(_shown(rule), rule.revision)


async def delete_federation_rule(call: Call) -> None:
    """Remove a rule, and end all logins by it."""
    call.subject = call.path["name"][:256]
    context = call.context
    ended = await federation.delete_rule(
        context.database, call.path["name"], context.now(), call.condition
    )
    await _follow(call, ended)


async def exchange_token(call: Call) -> Model:
    """Exchange the token of a job for an access token (RFC 8693)."""
    body, context = call.read(schemas.TokenExchangeRequest), call.context
    call.actor = _STRANGER
    source = source_key(call.source)
    if (seconds := context.exchanges.wait(source)) > 0:
        raise Throttled(seconds)
    context.exchanges.count(source)
    try:
        issuer, claims = await _verified(call, body.subject_token)
        subject = subject_of(claims)
    except Refused as refused:
        raise _refusal(refused) from None
    except Unreachable as error:
        context.exchanges.refund(source)
        message = f"nobody can be let in for now: {error}"
        raise ApiError(503, message, retry_after=5, audit_reason="ISSUER_DOWN") from None
    call.actor, call.actor_id = user_of(issuer.name, subject), uid_of(issuer.name, subject)
    rules = await _matching(call, issuer, subject, claims)
    if seconds := context.job_logins.take(call.actor_id):
        context.exchanges.refund(source)
        raise too_many("jobs of this name", seconds)
    answer = await _open_login(call, issuer, subject, claims, rules)
    context.exchanges.refund(source)
    return answer


async def _verified(call: Call, token: str) -> tuple[FederationSettings, dict[str, Any]]:
    """The claims of a good token, and whose it is.

    Several issuers of the settings may be one, for several audiences.
    """
    told = _issuer_in(token)
    jobs = call.context.issuers.jobs.values()
    unknown = "the token is of no issuer that central trusts (login.federation of its settings)"
    refused = Refused("ISSUER_UNKNOWN", unknown)
    for issuer in jobs:
        if issuer.source.issuer != told or told == call.context.settings.public_url:
            continue
        try:
            return _settings_of(issuer), await _claims_of(issuer, token)
        except Refused as error:
            refused = error
    raise refused


async def _claims_of(issuer: TokenIssuer, token: str) -> dict[str, Any]:
    audience = _settings_of(issuer).audience
    expected = Expected(issuer.source.issuer, audience, is_client=False, longest=LONGEST_TOKEN)
    return await issuer.verify(token, expected)


def _settings_of(issuer: TokenIssuer) -> FederationSettings:
    assert isinstance(issuer.source, FederationSettings)
    return issuer.source


def _issuer_in(token: str) -> object:
    """Whose the token says it is: which keys it has to be verified by, and no more."""
    if len(token) > LONGEST_TOKEN or token.count(".") != 2 or not token.isascii():
        raise Refused("TOKEN_MALFORMED", "this is no signed token (JWT) of a job")
    segment = token.split(".")[1].replace("-", "+").replace("_", "/")
    try:
        padded = segment + "=" * (-len(segment) % 4)
        claims = json.loads(binascii.a2b_base64(padded, strict_mode=True))
    except (ValueError, RecursionError):
        claims = None
    return claims.get("iss") if isinstance(claims, dict) else None


async def _matching(
    call: Call, issuer: FederationSettings, subject: str, claims: dict[str, Any]
) -> list[RuleRecord]:
    stored = await federation.rules_of_issuers(call.context.database, [issuer.name])
    rules = [rule for rule in stored if matches(rule.claims, claims)]
    if not rules:
        message = (
            f"no federation rule lets in {user_of(issuer.name, subject)}: ask an administrator "
            "for one that matches the claims of the token"
        )
        raise ApiError(403, message, audit_reason="NO_RULE", word=_INVALID_GRANT)
    groups = [_group(rule) for rule in rules]
    if len(groups) > MOST_GROUPS or sum(map(len, groups)) > MOST_GROUP_BYTES:
        message = f"{len(rules)} federation rules match this token, more than a login can have"
        raise ApiError(403, message, audit_reason="TOO_MANY_RULES", word=_INVALID_GRANT)
    return rules


async def _open_login(
    call: Call,
    issuer: FederationSettings,
    subject: str,
    claims: dict[str, Any],
    rules: Sequence[RuleRecord],
) -> Model:
    """The login ends with the shown token, and by the shortest of the rules."""
    context, now = call.context, call.context.now()
    names = [rule.name for rule in rules]
    seconds = min(schemas.LONGEST_SECONDS, *(rule.seconds for rule in rules))
    ends = min(now.timestamp() + seconds, float(claims["exp"]))
    if ends - now.timestamp() < _SHORTEST_SECONDS:
        raise _refusal(Refused("ID_TOKEN_EXPIRED", "the token has expired: show a new one"))
    user, uid = user_of(issuer.name, subject), uid_of(issuer.name, subject)
    login = Login(str(uuid.uuid4()), float(int(ends)), tuple(map(_group, rules)))
    call.subject = ", ".join(names)[:256]
    new = logins.NewLogin(
        login.id, uid, _date(login.ends), logins.FEDERATION, call.user_agent, issuer.name,
        call.source, groups=login.groups,
        claims={logins.USER_CLAIM: user, "sub": subject, "rules": call.subject},
    )  # fmt: skip
    await federation.open_login(context.database, new, now)
    return await _answer(call, Job(uid, user), login, names)


class Job:
    """A job as access tokens name it."""

    name = ""
    token_epoch = 0

    def __init__(self, uid: str, user: str) -> None:
        self.id = uid
        self.email = user


async def _answer(call: Call, job: Job, login: Login, rules: list[str]) -> Model:
    context = call.context
    token, expires = access_token.mint(
        context.keys,
        user=job,
        cluster=None,
        issuer=context.settings.public_url,
        lifetime=login.ends - context.clock(),
        now=context.clock(),
        login=login,
    )
    # A rule that was made on another replica a moment ago may not be in this one's snapshot yet.
    authorization = f"Bearer {token}".encode()
    try:
        identity = context.authenticator.authenticate(authorization)
    except Unauthenticated:
        await context.policy_feed.refresh()
        identity = context.authenticator.authenticate(authorization)
    user = await as_federated(context, identity)
    return schemas.TokenExchangeResponse(
        access_token=token,
        expires_in=max(0, int(expires - context.clock())),
        expires_at=_date(expires),
        user=job.email,
        rules=rules,
        roles=list(user.all_roles),
    )


def _wanted(call: Call, body: schemas.FederationRuleRequest) -> WantedRule:
    name = call.subject = call.path["name"][:256]
    try:
        if ":" in parse_group_name(name) or len(name) > 63:
            raise ApiError.invalid("name", "must be 1 to 63 letters, digits, dots, dashes")
        check_claims(body.claims)
    except PolicyError as error:
        raise ApiError.invalid("name", error.problem) from None
    except RuleRefused as error:
        raise ApiError.invalid("claims", str(error)) from None
    if body.issuer not in call.context.issuers.jobs:
        problem = f'login.federation of the settings has no "{body.issuer}": name one of it'
        raise ApiError.invalid("issuer", problem)
    return WantedRule(name, body.issuer, body.claims, tuple(body.roles), body.seconds)


async def _follow(call: Call, ended: list[str]) -> None:
    for login in ended:
        end_login(call.context, login)
    await call.context.policy_feed.refresh()


def _refusal(refused: Refused) -> ApiError:
    """RFC 8693 section 2.2.2."""
    return ApiError(400, refused.message, audit_reason=refused.reason, word=INVALID_REQUEST)


def _group(rule: RuleRecord) -> str:
    return f"{GROUP_PREFIX}{rule.name}"


def _date(moment: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC)


def _shown(rule: RuleRecord) -> schemas.FederationRule:
    return schemas.FederationRule(
        name=rule.name,
        issuer=rule.issuer,
        claims={name: list(globs) for name, globs in rule.claims.items()},
        roles=list(rule.roles),
        seconds=rule.seconds,
        created_at=rule.created_at,
    )


EXCHANGE = Endpoint(
    "POST",
    "/auth/token",
    exchange_token,
    "Exchange the token of a job",
    Access.PUBLIC,
    Audit.CREDENTIAL,
    request=schemas.TokenExchangeRequest,
    response=schemas.TokenExchangeResponse,
    refusals=(400, 403),
    verb="create",
    resource="logins",
    takes=FORM,
    is_oauth=True,
)
"""At the address of the cluster tokens, which are asked for in JSON."""

ENDPOINTS = (
    Endpoint(
        "GET",
        "/federation/rules",
        list_federation_rules,
        "List the rules by which jobs are let in",
        Access.ADMIN,
        response=schemas.FederationRuleList,
    ),
    Endpoint(
        "PUT",
        "/federation/rules/{name}",
        put_federation_rule,
        "Make a rule for jobs or replace it",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.FederationRuleRequest,
        response=schemas.FederationRule,
        conditional=True,
        refusals=(409,),
        verb="update",
        resource="federationrules",
    ),
    Endpoint(
        "DELETE",
        "/federation/rules/{name}",
        delete_federation_rule,
        "Remove a rule for jobs",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        conditional=True,
        refusals=(404,),
        verb="delete",
        resource="federationrules",
    ),
)
