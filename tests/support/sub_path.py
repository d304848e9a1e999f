"""Airflow below a path of a host: another API server of the stack behind a reverse proxy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aiohttp
from aiohttp import web

from include.stack.local import Stack
from include.stack.ports import LOOPBACK, choose
from tests.support.api_servers import another_api_server, port_of

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length"}


class PathProxy:
    """A reverse proxy that forwards only requests below `path` to a server.

    The server receives the whole path, as Airflow expects; otherwise its pages would not find their scripts.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._port, self._target = choose(), 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Return the server's URL for users."""
        return f"http://{LOOPBACK}:{self._port}{self._path}"

    @contextmanager
    def to(self, port: int) -> Iterator[str]:
        """Forward requests to the port; yield the URL for users."""
        self._target = port
        self._thread.start()
        assert self._ready.wait(30)
        yield self.url
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _serve(self) -> None:
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(), cookie_jar=aiohttp.DummyCookieJar()
        )
        application = web.Application()
        application.router.add_route("*", self._path + "{rest:(/.*)?}", self._forward)
        self._runner = web.AppRunner(application, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        streams = asyncio.all_tasks() - {asyncio.current_task()}
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await self._client.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        async with self._client.request(
            request.method,
            f"http://{LOOPBACK}:{self._target}{request.raw_path}",
            headers=[(name, value) for name, value in request.headers.items() if _travels(name)],
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            passed = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if _travels(name) or name.lower() == "content-encoding":
                    passed.headers.add(name, value)
            with suppress(ConnectionResetError):  # the client has closed the connection
                await passed.prepare(request)
                async for block in answer.content.iter_any():
                    await passed.write(block)
                await passed.write_eof()
            return passed


def _travels(header: str) -> bool:
    return header.lower() not in _OF_ONE_CONNECTION


@contextmanager
def airflow_below(stack: Stack, path: str) -> Iterator[str]:
    """Start a second API server of the running stack behind a proxy; yield the proxy's URL."""
    proxy = PathProxy(path)
    with (
        another_api_server(stack, "api-server-below-a-path", proxy.url) as service,
        proxy.to(port_of(service)) as url,
    ):
        yield url
