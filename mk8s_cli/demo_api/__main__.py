"""`python -m mk8s_cli.demo_api --port 0 --data-dir DIR`: the demo API as a program.

Prints its URL as the first line, writes `kubeconfig` (0600) to the data directory, runs until
SIGINT or SIGTERM. `mk8s demo` starts it.
"""

import asyncio
import os
import signal
from pathlib import Path

import click

from mk8s_cli.demo_api.server import DemoApi, running_demo_api


def write_kubeconfig(server: DemoApi, directory: Path) -> Path:
    """Writes the kubeconfig for nobody else to read."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "kubeconfig"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(server.kubeconfig())
    return path


async def serve(port: int, directory: Path) -> None:
    """Serves until a signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running_demo_api(port=port) as server:
        path = write_kubeconfig(server, directory)
        click.echo(server.url)
        click.echo(f"in-memory Kubernetes API for demos; kubeconfig: {path}")
        await stop.wait()


@click.command()
@click.option("--port", default=0, help="Port on loopback; 0 takes a free one.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), required=True, help="For the kubeconfig."
)
def main(port: int, data_dir: Path) -> None:
    """Serve an in-memory Kubernetes API for demos and tests."""
    try:
        asyncio.run(serve(port, data_dir))
    except OSError as error:
        raise click.ClickException(
            f"cannot serve on port {port}: {error.strerror or error}"
        ) from error


if __name__ == "__main__":
    main()
