"""`python -m mk8s_cli.demo_api --port 0 --data-dir DIR`: the demo API as a program.

Prints its URL as the first line, writes `kubeconfig` (0600) to the data directory, runs until
SIGINT or SIGTERM. `mk8s demo` starts it.
"""

import asyncio
import signal
from pathlib import Path

import click

from mk8s_cli.demo_api.server import running_demo_api
from mk8s_cli.terminal.private_files import write_private


async def serve(port: int, directory: Path) -> None:
    """Serves until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_demo_api(port=port) as server:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "kubeconfig"
        write_private(path, server.kubeconfig().encode())
        click.echo(f"{server.url}\nin-memory Kubernetes API for demos; kubeconfig: {path}")
        await stop.wait()


@click.command()
@click.option("--port", default=0, help="Port on loopback; 0 takes a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), required=True)
def main(port: int, data_dir: Path) -> None:
    """Serve an in-memory Kubernetes API for demos and tests."""
    try:
        asyncio.run(serve(port, data_dir))
    except OSError as error:
        reason = error.strerror or error
        raise click.ClickException(f"cannot serve on port {port}: {reason}") from error


if __name__ == "__main__":
    main()
