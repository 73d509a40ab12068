"""The command line of ``mk8s-agent``: argv and environment in, one call out.

What it calls is imported when it does: ``--help`` must not pay for the agent.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from mk8s_agent.version import agent_version

    click.echo(f"mk8s-agent {agent_version()}")
    context.exit()


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: mk8s-agent --context kind-dev --central https://mk8s.example.com "
    "--cluster dev --ca-pin sha256:... (and the join token in AGENT_TOKEN)",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="Show the version and exit.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help="YAML file of settings.")
@click.option("--central", "central_url", metavar="URL", help="Central's URL. [CENTRAL_URL]")
@click.option("--cluster", "cluster_name", metavar="NAME", help="Cluster's name. [CLUSTER_NAME]")
@click.option("--token", "join_token", metavar="TOKEN", help="Join token. [AGENT_TOKEN]")
@click.option("--ca-pin", metavar="sha256:HEX", help="Pin of central's CA. [CA_PIN]")
@click.option("--ca-file", metavar="PATH", help="PEM of central's CA, instead of a pin.")
@click.option("--kubeconfig", metavar="PATH", help="Reach the API server by this kubeconfig.")
@click.option("--context", metavar="NAME", help="A context of the kubeconfig.")
@click.option("--data-dir", metavar="PATH", help="Folder that keeps the agent's identity.")
@click.option("--tunnels", metavar="N", help="Tunnels to hold, 2 by default.")
@click.option("--health-listen", metavar="HOST:PORT", help="Serve health and metrics there.")
@click.option("--join-timeout", metavar="SECONDS", help="Wait so long for central at the join.")
@click.option("--drain-seconds", metavar="SECONDS", help="Let requests end so long on SIGTERM.")
def command(config: Path | None, **options: Any) -> None:
    """Connect a Kubernetes cluster to mk8s-central.

    Every option can be set as MK8S_AGENT_<NAME> in the environment, or in the YAML file.
    """
    from mk8s_agent.credentials.sources import in_cluster
    from mk8s_agent.settings import load_settings
    from mk8s_agent.wire.settings import SettingsError

    try:
        settings = load_settings(
            options,
            os.environ,
            config=config,
            home=Path.home(),
            in_pod=in_cluster(os.environ),
        )
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    from mk8s_agent import main

    sys.exit(main.start(settings))
