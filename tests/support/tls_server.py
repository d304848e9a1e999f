"""A server that speaks TLS, in front of one that does not."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.certificates import certify


@contextmanager
def serving_tls(endpoint_url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Forward to `endpoint_url`; yield the URL to connect to, and the certificate to trust."""
    certificate, key = certify("localhost", folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    target = urlsplit(endpoint_url)

    async def carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await source.read(2**16):
                to.write(block)
                await to.drain()
        to.close()

    async def serve(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(carry(source, requests), carry(answers, to))

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            ports.append(server.sockets[0].getsockname()[1])
            started.set()
            await ended.wait()

    ports: list[int] = []
    started, ended, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    started.wait()
    try:
        yield f"https://localhost:{ports[0]}", certificate
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
