"""What ways of logging in a central offers, and which one is taken here. No I/O but the question.

Called by the login. An older central has no `/auth/methods` and takes passwords. What central calls
its issuers goes into paths, options and the configuration, so names of another shape are refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mk8s_cli.central.api import Central, Document, text
from mk8s_cli.terminal.errors import CliError, Refused
from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.validation import LABEL

PASSWORD, BROWSER, DEVICE = "password", "browser", "device"
MOST = 50
"""Issuers that are looked at."""
LONGEST_TITLE = 60
_NO_ENDPOINT = frozenset({404, 405})


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer that people may sign in at."""

    name: str
    title: str
    """For people; safe on a terminal."""


@dataclass(frozen=True, slots=True)
class Methods:
    """What a central offers."""

    passwords: bool = True
    issuers: tuple[Issuer, ...] = ()
    device: bool = False
    federation: Mapping[str, str] | None = None
    """The audience that the tokens of jobs must name, by the name of their issuer."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for, what was done last time, and what this terminal can do."""

    way: str = ""
    """"password", "browser" or "device", "" if nobody says."""
    is_single_sign_on: bool | None = None
    """Whether the last login here was one; None if there was none."""
    can_browse: bool = False
    has_person: bool = True
    """Whether somebody sits at this terminal."""


def offered(central: Central) -> Methods:
    """Ask central. Raises `CliError` for an answer of another shape."""
    try:
        document = central.call("GET", "/auth/methods")
    except Refused as refusal:
        if refusal.code in _NO_ENDPOINT:
            return Methods()
        raise
    return Methods(
        passwords=document.get("passwords") is not False,
        issuers=tuple(_issuer(it) for it in _objects(document, "issuers")),
        device=document.get("device") is True,
        federation={_name(it): text(it, "audience") for it in _objects(document, "federation")},
    )


def choose(methods: Methods, wish: Wish) -> str:
    """Return "password", "browser" or "device".

    Raises:
        CliError: central does not offer what was asked for, or there is no way from here.
    """
    if wish.way:
        _require_offered(methods, wish.way)
        return wish.way
    if not methods.issuers or (wish.is_single_sign_on is False and methods.passwords):
        _require_offered(methods, PASSWORD)
        return PASSWORD
    if not wish.has_person:
        raise CliError(
            "there is no terminal to log in at: add --browser or --device, "
            "or in a job --federated or a service token (MK8S_TOKEN)"
        )
    if wish.can_browse or not methods.device:
        return BROWSER
    return DEVICE


def issuer_of(methods: Methods, wanted: str) -> Issuer | None:
    """Return the issuer that is meant, None if that is to be asked; "" means the only one.

    Raises:
        CliError: there is none of that name.
    """
    if not wanted:
        return methods.issuers[0] if len(methods.issuers) == 1 else None
    found = next((it for it in methods.issuers if it.name == wanted), None)
    if found is None:
        raise CliError(f"central has no issuer {wanted!a}; it has: {listed(methods.issuers)}")
    return found


def listed(issuers: Iterable[Issuer]) -> str:
    """Return the names of issuers, with what people call them."""
    return ", ".join(f"{it.name} ({it.title})" if it.title else it.name for it in issuers) or "none"


def _require_offered(methods: Methods, way: str) -> None:
    if way == PASSWORD and not methods.passwords:
        raise CliError("central takes no passwords: log in with --browser or --device")
    if way != PASSWORD and not methods.issuers:
        raise CliError("central offers no single sign-on: log in with --password")
    if way == DEVICE and not methods.device:
        raise CliError("central offers no login by a code: log in with --browser")


def _objects(document: Document, key: str) -> list[dict[str, Any]]:
    listed = document.get(key)
    if not isinstance(listed, list):
        return []
    return [it for it in listed[:MOST] if isinstance(it, dict)]


def _issuer(item: Document) -> Issuer:
    return Issuer(_name(item), escape(text(item, "title"))[:LONGEST_TITLE])


def _name(item: Document) -> str:
    name = text(item, "name")
    if not LABEL.fullmatch(name):
        raise CliError("central's answer is refused: an issuer has no plain name")
    return name
