"""ExecCredential in and out: what kubectl hands to its plugin and what it wants back. No I/O.

Called by `mk8s get-token`. The shapes are those of client-go's pkg/apis/clientauthentication; the
answer's apiVersion must equal the one of the question, so the question is read first. Light on
purpose: the fast path imports it.
"""

import time

from mk8s_cli.terminal.errors import CliError

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
EARLY_SECONDS = 45.0
"""How long before its end a token is reported as expired: none must die on its way."""
KUBECONFIG_VERSION = VERSIONS[1]
"""What an entry names unless v1 is known to be understood: kubectl before 1.22 speaks only this."""


def api_version(exec_info: str) -> str:
    """Return the apiVersion that KUBERNETES_EXEC_INFO asks for.

    Raises:
        CliError: it is no ExecCredential, or of a version that nobody speaks any more.
    """
    import json

    try:
        document = json.loads(exec_info)
    except ValueError:
        raise CliError("KUBERNETES_EXEC_INFO is not JSON; is get-token run by kubectl?") from None
    version = document.get("apiVersion") if isinstance(document, dict) else None
    if version not in VERSIONS:
        raise CliError(
            f"kubectl asks for credentials of version {version!a}; "
            "update kubectl, or run: mk8s kubeconfig sync"
        )
    return str(version)


def answer(version: str, token: str, expires: float) -> str:
    """Return the ExecCredential document for a token that ends at `expires` (epoch seconds)."""
    if not is_simple(token):
        import json

        token = json.dumps(token)[1:-1]
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires - EARLY_SECONDS))
    status = f'{{"expirationTimestamp": "{ends}", "token": "{token}"}}'
    return f'{{"apiVersion": "{version}", "kind": "ExecCredential", "status": {status}}}'


def is_simple(token: str) -> bool:
    """Whether a token is the same in JSON as it is, as what central issues always is."""
    return token.isascii() and token.isprintable() and not any(it in token for it in ' "\\')
