"""Central's management API as functions with typed results.

Called by the commands. Every answer is read through `_field` and the patterns of `validation.py`:
what is not of the promised shape is refused with one line, it never reaches a file or a command.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.terminal.errors import CliError, Refused
from mk8s_cli.terminal.validation import LABEL, TOKEN, cluster_name, server_url

if TYPE_CHECKING:
    from mk8s_cli.central.transport import Answer, Transport

MAX_TEXT = 4096
MAX_TOKEN = 16384
MAX_ITEMS = 20000
NOT_FOUND = 404
PARTS = ("clusters", "namespaces", "verbs", "resources")
"""Of a narrowing."""
MAX_LIFE_SECONDS = 7 * 86400.0

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login or refresh gives; the refresh token must be stored before anything else."""

    access_token: AccessToken
    refresh_token: str
    email: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delegated:
    """A delegation, as central tells of it."""

    id: str
    delegate: str
    """How the audit names it."""
    ends_at: str
    narrowing: Mapping[str, tuple[str, ...]]
    """What it may do at most: clusters, namespaces, verbs, resources."""

    @property
    def allowed(self) -> str:
        """That, in a line."""
        said = {part: ",".join(words) for part, words in self.narrowing.items()}
        return "{verbs} of {resources}, namespaces {namespaces}, clusters {clusters}".format(**said)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that the caller may use."""

    name: str
    server: str
    """The address for a kubeconfig."""
    status: str
    namespace: str
    """Where its user begins: the only one that the roles name, "" for none or many."""
    document: Document = field(hash=False)
    """Everything central said about it, for -o json."""


class Central:
    """The endpoints of one central; `token` is the access token of the calls that need one."""

    def __init__(
        self, transport: "Transport", token: str = "", renew: Callable[[], str] | None = None
    ) -> None:
        """Call through `transport`, with `token` as the bearer token where it is not empty.

        `renew` gives another token when central does not take this one before its end, as after
        its signing key was retired; it is asked once.
        """
        self.transport = transport
        self.token = token
        self._renew = renew

    def call(
        self,
        method: str,
        path: str,
        payload: object | None = None,
        *,
        form: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Document:
        """Send one call with the bearer token and return the answer's JSON object, {} for none."""
        try:
            answer = self._send(method, path, payload, form, repeatable)
        except Refused as refusal:
            if refusal.code != 401 or self._renew is None:
                raise
            self.token, self._renew = self._renew(), None
            answer = self._send(method, path, payload, form, repeatable)
        if answer.code == 204 or not answer.body:
            return {}
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise _strange(
                f"{method} {path} is not JSON; is this address really central's?"
            ) from None
        if isinstance(document, list):
            return {"items": document}
        if not isinstance(document, dict):
            raise _strange(f"{method} {path} is not an object")
        return document

    def _send(
        self,
        method: str,
        path: str,
        payload: object | None,
        form: Mapping[str, str] | None,
        repeatable: bool,
    ) -> "Answer":
        return self.transport.call(
            method, path, token=self.token, payload=payload, form=form, repeatable=repeatable
        )

    def login(self, email: str, password: str) -> Grant:
        """Exchange a password for tokens."""
        body = {"email": email, "password": password}
        return grant(self.call("POST", "/auth/login", body), email)

    def refresh(self, refresh_token: str, attempt: str, cluster: str) -> Grant:
        """Exchange the refresh token for new tokens, bound to `cluster` unless it is "".

        With an `attempt` it can be done again while nobody has used what it gave.
        """
        body = {"refresh_token": refresh_token}
        if attempt:
            body["attempt"] = attempt
        if cluster:
            body["cluster"] = cluster
        return grant(self.call("POST", "/auth/refresh", body, repeatable=bool(attempt)), "")

    def cluster_token(self, cluster: str) -> AccessToken:
        """Exchange the bearer token for an access token of one cluster."""
        answer = self.call("POST", "/auth/token", {"cluster": cluster}, repeatable=True)
        return _access_token(answer)

    def exchange(self, job_token: str) -> AccessToken:
        """Exchange the token of a job for an access token (RFC 8693)."""
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": job_token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        return _access_token(self.call("POST", "/auth/token", form=form, repeatable=True))

    def change_password(self, email: str, password: str, new: str) -> None:
        """Change a password, which is proven anew; the login of the bearer token goes on."""
        body = {"email": email, "password": password, "new_password": new}
        self.call("POST", "/auth/password", body)

    def logout(self, refresh_token: str) -> None:
        """Revoke the refresh token."""
        self.call("POST", "/auth/logout", {"refresh_token": refresh_token})

    def delegate(self, asked_for: Document) -> tuple[Grant, Delegated]:
        """Open a login under that of the bearer token; its tokens, and what it may do."""
        answer = self.call("POST", "/delegations", asked_for)
        about = answer.get("delegation")
        found = delegated(about if isinstance(about, dict) else {})
        if not LABEL.fullmatch(found.id):  # it becomes the name of a directory
            raise _strange("it names no delegation")
        return grant(answer, ""), found

    def delegations(self) -> list[Delegated]:
        """Return the open delegations of the caller; an older central has none."""
        try:
            filters = {"source": "delegation", "status": "active"}
            return [delegated(it) for it in self.items("/logins", filters)]
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            return []

    def ca_pem(self) -> str:
        """Return the certificate(s) of the authority that signed central's own certificate."""
        return self.transport.call("GET", "/ca.pem").body.decode("ascii", "replace")

    def whoami(self) -> Document:
        """Return {user, roles, clusters, expires_at, admin}."""
        return self.call("GET", "/auth/whoami")

    def clusters(self) -> tuple[Cluster, ...]:
        """Return the clusters that the caller may use, by name."""
        found = [_cluster(item, self.transport.central) for item in self.items("/clusters")]
        return tuple(sorted(found, key=lambda cluster: cluster.name))

    def permissions(self, cluster: str) -> list[Document]:
        """Return the rules of the caller on `cluster`."""
        document = self.call("GET", f"/clusters/{segment(cluster)}/permissions")
        lists = (document.get(key) for key in ("items", "permissions", "rules"))
        rules = next((value for value in lists if isinstance(value, list)), [])
        return [rule for rule in rules[:MAX_ITEMS] if isinstance(rule, dict)]

    def items(self, path: str, filters: Mapping[str, str] | None = None) -> list[Document]:
        """Return the objects of a list endpoint that `filters` let through, from all its pages."""
        from urllib.parse import urlencode

        items: list[Document] = []
        query = dict(filters or {})
        page = self.call("GET", f"{path}?{urlencode(query)}" if query else path)
        while True:
            items += listed(page, path.strip("/"), f"GET {path}")
            cursor = page.get("next_cursor")
            if not cursor:
                return items
            if not isinstance(cursor, str) or len(items) >= MAX_ITEMS:
                raise _strange(f"GET {path} has too many pages")
            page = self.call("GET", f"{path}?{urlencode({**query, 'cursor': cursor})}")


def delegated(document: Document) -> Delegated:
    """Read what central says of a delegation."""
    narrowing = document.get("narrowing")
    parts = narrowing if isinstance(narrowing, dict) else {}
    return Delegated(
        id=text(document, "id"),
        delegate=text(document, "delegate") or text(document, "label") or text(document, "id"),
        ends_at=text(document, "ends_at"),
        narrowing={part: texts(parts, part) for part in PARTS},
    )


def listed(page: Document, name: str, call: str) -> list[Document]:
    """Return the objects that a page lists under `name`, or as older centrals called them.

    Raises:
        CliError: there are none, or what is there is something else.
    """
    items = page.get(name, page.get("items"))
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        raise _strange(f"{call} holds no list of {name}")
    if not all(isinstance(item, dict) for item in items):
        raise _strange(f"{call} lists something that is no object")
    return items


def segment(text: str) -> str:
    """Return `text` as one path segment; what RFC 3986 allows there stays readable."""
    from urllib.parse import quote

    return quote(text, safe="@+!$&'()*,;=:")


def text(document: Mapping[str, Any], key: str) -> str:
    """Return the string at `key`, "" for an absent or null one, shortened to `MAX_TEXT`."""
    value = document.get(key)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the strings of the list at `key`; () when there is none."""
    value = document.get(key)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def grant(document: Document, email: str) -> Grant:
    """Return what an answer to a login or refresh holds; `email` where it does not name one."""
    user = document.get("user")
    about = user if isinstance(user, dict) else {}
    return Grant(
        access_token=_access_token(document),
        refresh_token=_token(document, "refresh_token"),
        email=text(about, "email") or email,
        roles=texts(about, "roles"),
    )


def _access_token(document: Document) -> AccessToken:
    now = time.time()
    life = document.get("expires_in")
    if (
        isinstance(life, bool)
        or not isinstance(life, (int, float))
        or not 0 < life <= MAX_LIFE_SECONDS
    ):
        raise _strange("expires_in is not a number of seconds")
    # The end is counted on this machine's clock: a clock that is off then does no harm here.
    return AccessToken(_token(document, "access_token"), now, now + float(life))


def _token(document: Document, key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not TOKEN.fullmatch(value):
        raise _strange(f"{key} is not a token")
    return value


def _cluster(item: Document, central: str) -> Cluster:
    name = cluster_name(item.get("name"), "central's answer is refused: cluster name")
    server = server_url(item.get("server") or f"{central}/k8s/{name}")
    namespace = text(item, "namespace")
    return Cluster(
        name=name,
        server=server,
        status=text(item, "status"),
        namespace=namespace if LABEL.fullmatch(namespace) else "",
        document=item,
    )


def _strange(what: str) -> CliError:
    return CliError(f"central's answer is refused: {what}")
