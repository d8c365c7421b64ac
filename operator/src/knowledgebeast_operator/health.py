"""Liveness, for the active operator and the standby alike: /healthz is 500 as soon as something says what is wrong.

kopf's own endpoint exists only while kopf runs, and stays at 200 when a watch has died.
"""

from collections.abc import Callable, Iterable

from aiohttp import web

Check = Callable[[], Iterable[str]]
"""What is wrong, in sentences; nothing when all is well."""


class Health:
    """The checks of this process and the server that answers the kubelet."""

    def __init__(self) -> None:
        self._checks: list[Check] = []
        self._runner: web.AppRunner | None = None
        self.port = 0

    def add(self, check: Check) -> None:
        """From now on `check` is asked too; it must not block."""
        self._checks.append(check)

    def problems(self) -> tuple[str, ...]:
        """What all checks say now."""
        return tuple(problem for check in self._checks for problem in check())

    async def start(self, address: str, port: int) -> None:
        """Begins to listen; with port 0 the chosen one is in `port`."""
        application = web.Application()
        application.router.add_get("/healthz", self._answer)
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        problems = self.problems()
        return web.Response(status=500 if problems else 200, text="\n".join(problems) or "ok")
