"""Whether this central is the right one: decided before a password is typed.

Called by the login. Order: a file given, a pin given, what was pinned before, what this machine
trusts anyway; only then a person is shown the pin and asked. Without a person to ask it fails.
"""

from contextlib import suppress
from pathlib import Path

from mk8s_cli.central import certificate
from mk8s_cli.central.api import Central
from mk8s_cli.central.transport import Transport, trusting, unverified
from mk8s_cli.terminal.errors import CliError, UntrustedCertificate
from mk8s_cli.terminal.screen import confirm, is_interactive
from mk8s_cli.terminal.validation import PIN


def establish(central: str, known: str, authority_file: Path | None, pin: str) -> str:
    """Return the PEM of the authority to trust for `central`, "" for the ones of this machine.

    `known` is what an earlier login pinned. The answer is proven: central's certificate verifies.

    Raises:
        CliError: the certificate is not the one that was vouched for, or nobody can vouch for it.
    """
    if authority_file is not None:
        return _proven(central, _read(authority_file))
    if pin:
        return _proven(central, _pinned(central, pin))
    try:
        return _proven(central, known)
    except UntrustedCertificate as error:
        if known:
            raise CliError(
                f"the certificate of {central} is not signed by the authority pinned at the last "
                "login; if it was replaced on purpose, ask for the new pin and add --ca-pin"
            ) from error
    return _proven(central, _confirmed(central))


def vouched_for(central: str, authority_file: Path | None, pin: str) -> str:
    """Return the PEM of the authority that a file or a pin names, without a login.

    Raises:
        CliError: the file cannot be read, or central has no authority of that pin.
    """
    return _read(authority_file) if authority_file is not None else _pinned(central, pin)


def followed(transport: Transport) -> str:
    """Return what central is to be verified by from now on, as it says over a verified connection.

    Raises:
        CliError: that would not verify it, as where a proxy in between has a certificate of its
            own: what is pinned then is that proxy's authority.
    """
    told = "".join(certificate.split_pem(Central(transport).ca_pem()))
    return _proven(transport.central, told)


def _proven(central: str, authority: str) -> str:
    Central(Transport(central, trusting(authority))).ca_pem()
    return authority


def _read(authority_file: Path) -> str:
    try:
        content = authority_file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read certificates from {authority_file}: {error}") from error
    return "".join(certificate.split_pem(content))


def _presented(central: str) -> dict[str, str]:
    """Return pin to PEM of what central says its authority is; proves nothing by itself."""
    text = Central(Transport(central, unverified())).ca_pem()
    return {certificate.pin(pem): pem for pem in certificate.split_pem(text)}


def _in_use(central: str) -> tuple[str, str]:
    """Return pin and PEM of the authority that central's certificate is of, as it says."""
    for pin, authority in _presented(central).items():
        with suppress(UntrustedCertificate):
            return pin, _proven(central, authority)
    raise CliError(f"none of the authorities that {central} names has signed its certificate")


def _pinned(central: str, pin: str) -> str:
    wanted = pin.strip().lower()
    if not PIN.fullmatch(wanted):
        raise CliError("a pin looks like sha256: and 64 hex digits; mk8s-central init prints it")
    presented = _presented(central)
    if wanted not in presented:
        raise CliError(
            f"central's authority has the pin {', '.join(presented)}, not the one given; "
            "you may be talking to somebody else: ask your administrator"
        )
    return presented[wanted]


def _confirmed(central: str) -> str:
    pin, authority = _in_use(central)
    if not is_interactive():
        raise CliError(
            f"{central} uses its own authority, not trusted here; compare its pin {pin} with "
            "the one from your administrator, then add --ca-pin"
        )
    question = (
        f"{central} uses its own certificate authority, with the pin\n  {pin}\n"
        "Is that the pin you got from your administrator?"
    )
    if not confirm(question):
        raise CliError("the authority was not trusted; no password was sent")
    return authority
