"""kubectl for callers in this process: made before the API, started with the listener."""

from mk8s_agent.wire.background import Background
from mk8s_proxy.api.exec_runner import CommandRunner
from mk8s_proxy.identity.authorities import Authorities
from mk8s_proxy.listener.server import Listener
from mk8s_proxy.settings.model import Settings


def command_runner(settings: Settings, authorities: Authorities) -> CommandRunner | None:
    """What runs commands; None where that is switched off."""
    if not settings.exec.enabled:
        return None
    ca_pem = authorities.server_ca.certificate_pem
    return CommandRunner(settings.exec, settings.data_dir / "exec", ca_pem)


async def start_commands(
    commands: CommandRunner | None, listener: Listener, background: Background
) -> None:
    """Give it a port that only this process listens on, and let it look for kubectl."""
    if commands is not None:
        commands.port = await listener.listen_to_own()
        commands.start(background)
