"""A reverse proxy before the API server, as a place where a test breaks things. Plain HTTP on the loopback."""

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from kubernetes import client, config

KEPT_HEADERS = ("Accept", "Content-Type", "User-Agent")


class ApiProxy:
    """Forwards everything, with the credentials of a kubeconfig, until a test kills the watches of a kind."""

    _loop: asyncio.AbstractEventLoop

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        loader: Any = config
        upstream: Any = client.Configuration()
        loader.load_kube_config(config_file=str(kubeconfig), client_configuration=upstream)
        self._host = str(upstream.host)
        self._tls = ssl.create_default_context(cafile=upstream.ssl_ca_cert)
        self._tls.load_cert_chain(upstream.cert_file, upstream.key_file)
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._folder = folder
        self._watches: dict[str, set[asyncio.Task[object]]] = {}
        self._dead: dict[str, int] = {}
        self._frozen: set[str] = set()
        self._port = 0

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that leads through this proxy."""
        file = self._folder / "proxied.yaml"
        nobody: dict[str, str] = {}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}],
            "users": [{"name": "u", "user": nobody}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        file.write_text(yaml.safe_dump(document))
        return file

    def kill_watches(self, plural: str, status: int) -> None:
        """Cuts the watches of a kind, and answers their return with this status from then on."""
        self._dead[plural] = status
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._watches.get(plural, ())])

    def freeze_watches(self, plural: str) -> None:
        """From now on the watches of a kind stay open and say nothing."""
        self._frozen.add(plural)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # cancels the watches that are still open
            self._loop = runner.get_loop()
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls, limit=0)) as session:

            async def forward(request: web.Request) -> web.StreamResponse:
                return await self._forward(session, request)

            application = web.Application(client_max_size=10 * 2**20)
            application.router.add_route("*", "/{path:.*}", forward)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = int(runner.addresses[0][1])
            self._ready.set()
            await self._stopped.wait()
            await runner.cleanup()

    async def _forward(self, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        is_watch = request.query.get("watch") == "true"
        if is_watch and plural in self._dead:
            status = self._dead[plural]
            return web.json_response({"kind": "Status", "code": status, "reason": "Expired"}, status=status)
        task = asyncio.current_task()
        if is_watch and task is not None:
            self._watches.setdefault(plural, set()).add(task)
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with session.request(
            request.method,
            f"{self._host}{request.path_qs}",
            data=await request.read() or None,
            headers=headers,
            timeout=timeout,
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            with contextlib.suppress(ConnectionError):  # a client that has ended
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    if not (is_watch and plural in self._frozen):
                        await response.write(chunk)
                await response.write_eof()
            return response
