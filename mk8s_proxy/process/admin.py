"""/livez and /readyz on the admin address, for whatever supervises this process."""

from collections.abc import Callable

from aiohttp import web

Check = Callable[[], bool]


def create_health(
    checks: dict[str, Check], unready: Callable[[], list[str]], told: Callable[[], str] = str
) -> web.Application:
    """The application behind `admin_listen`.

    Args:
        checks: by name; /readyz is 200 while all of them say True, and names those that do not.
        unready: gives the names of tasks that do not go on (`Background.unready`).
        told: gives a line that is worth knowing and decides nothing.
    """

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        stopped = unready()
        failed = [name for name, check in checks.items() if not check()] + stopped
        lines = [f"[{'-' if name in failed else '+'}]{name}" for name in (*checks, *stopped)]
        lines += [f"[+]{line}" for line in [told()] if line]
        return web.Response(text="\n".join(lines) + "\n", status=503 if failed else 200)

    application = web.Application()
    application.router.add_get("/livez", livez)
    application.router.add_get("/readyz", readyz)
    return application
