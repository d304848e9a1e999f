"""Images are fetched only from allowed hosts, over https and within limits; no signature is disclosed."""

from __future__ import annotations

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from include.datasets.conversion.addresses import Address, AllowedHosts, parse_address, without_query
from include.datasets.conversion.web import FetchLimits, FetchRefused, ImagesUnavailable, open_web
from tests.support.image_host import ImageHost

SECRET = "X-Signature=0123secret"
LIMITS = FetchLimits(size=1000, tries=3, pause=0.01)


@pytest.fixture
def host(server: ImageHost, monkeypatch: pytest.MonkeyPatch) -> ImageHost:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
    for kept in (
        server.files,
        server.requested,
        server.redirects,
        server.status,
        server.cut,
        server.drip,
        server.agents,
    ):
        kept.clear()
    server.files["/a.png"] = b"image" * 50
    return server


def fetch(
    host: ImageHost,
    to: Path,
    path: str = "/a.png",
    allowed: str | None = None,
    limits: FetchLimits = LIMITS,
) -> None:
    hosts = AllowedHosts.parse(allowed or f"localhost:{host.port}, 127.0.0.0/8")
    with open_web(hosts, limits, 4) as web:
        web.fetch(path if ":" in path else f"{host.url}{path}?{SECRET}", to)


def test_a_file_is_fetched_with_its_signature_and_nothing_else(host: ImageHost, tmp_path: Path) -> None:
    fetch(host, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").read_bytes() == b"image" * 50
    assert dict(host.requested) == {f"/a.png?{SECRET}": 1}
    assert not {"Authorization", "Cookie", "Referer"} & set(host.agents[0])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_an_interrupted_download_is_repeated(host: ImageHost, tmp_path: Path) -> None:
    host.cut["/a.png"] = 1
    host.status["/a.png"] = [503, 429]
    with pytest.raises(ImagesUnavailable, match=r"a\.png was cut off \(.*\), 3 times in a row"):
        fetch(host, tmp_path / "a.png")
    fetch(host, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"image" * 50


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_expired_signature_is_not_retried(status: int, host: ImageHost, tmp_path: Path) -> None:
    host.status["/a.png"] = [status] * 3
    with pytest.raises(FetchRefused, match=f"HTTP {status}; signed URLs expire, so export the dataset again"):
        fetch(host, tmp_path / "a.png")
    assert host.requested.total() == 1
    assert not list(tmp_path.iterdir())


def test_redirects_are_followed_to_allowed_hosts_only(host: ImageHost, tmp_path: Path) -> None:
    host.redirects["/moved.png"] = "/a.png"
    fetch(host, tmp_path / "moved.png", "/moved.png")
    for target, problem in (
        (
            "https://evil.example.com/a.png",
            "redirects to evil.example.com, which is not in DATASET_URL_HOSTS",
        ),
        (
            f"https://127.0.0.1:{host.port}/a.png",
            "redirects to 127.0.0.1:.*, which is not in DATASET_URL_HOSTS",
        ),
        (f"http://localhost:{host.port}/a.png", "not an https:// address"),
        ("//evil.example.com/a.png", "redirects to evil.example.com"),
        ("file:///etc/passwd", "not an https:// address"),
        ("https://[bad", "redirects to an address that is not valid"),
        ("/moved.png", "redirects more than 3 times"),
    ):
        host.redirects["/moved.png"] = target
        with pytest.raises(FetchRefused, match=problem):
            fetch(host, tmp_path / "other.png", "/moved.png")


def test_a_host_with_a_private_address_is_not_sent_a_request(host: ImageHost, tmp_path: Path) -> None:
    with pytest.raises(
        FetchRefused, match=r"the host has the address 127\.0\.0\.1, which is not public; have this address"
    ):
        fetch(host, tmp_path / "a.png", allowed=f"localhost:{host.port}")
    assert not host.requested


def test_an_untrusted_certificate_is_refused(
    host: ImageHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(FetchRefused, match="no valid certificate"):
        fetch(host, tmp_path / "a.png")


def test_an_interrupted_handshake_is_retried(tmp_path: Path) -> None:
    """The host closes the connection instead of answering, as an overloaded load balancer does."""
    with socket.create_server(("localhost", 0)) as listener, ThreadPoolExecutor(1) as threads:
        port = listener.getsockname()[1]
        listener.settimeout(10)

        def close() -> None:
            for _ in range(LIMITS.tries):
                connected, _ = listener.accept()
                with connected:
                    connected.recv(4096)

        closing = threads.submit(close)
        with (
            open_web(AllowedHosts.parse(f"localhost:{port}, 127.0.0.0/8"), LIMITS, 1) as web,
            pytest.raises(ImagesUnavailable, match=r"a\.png cannot be reached \(.*\), 3 times in a row"),
        ):
            web.fetch(f"https://localhost:{port}/a.png", tmp_path / "a.png")
        closing.result()


def test_large_and_endless_files_are_refused(host: ImageHost, tmp_path: Path) -> None:
    host.files["/large.png"] = b"x" * 1001
    host.drip.add("/a.png")
    for path, problem in (
        ("/large.png", "it exceeds the limit of 1000 bytes"),
        ("/a.png", "longer than the limit of 1 s"),
    ):
        with pytest.raises(FetchRefused, match=problem):
            fetch(host, tmp_path / "b.png", path, limits=replace(LIMITS, seconds=1))


def _merge(record: logging.LogRecord) -> bool:
    """Merge the arguments into the message, as MLflow's log filter does."""
    record.msg, record.args = record.getMessage(), None
    return True


@pytest.mark.parametrize("merged", [False, True])
def test_no_signature_appears_in_errors_or_logs(
    merged: bool,
    host: ImageHost,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    # Log filters that other tests left in this process, such as MLflow's, would also hide a signature.
    filters = [_merge] if merged else []
    monkeypatch.setattr(logging.getLogger("urllib3.connectionpool"), "filters", filters)
    shown, unreachable = [], f"https://localhost:1/a.png?{SECRET}"
    for path, statuses in (
        ("/a.png", [500] * 3),
        ("/gone.png", []),
        (unreachable, []),
    ):
        host.status[path] = list(statuses)
        with pytest.raises((FetchRefused, ImagesUnavailable)) as failed:
            fetch(host, tmp_path / "a.png", path, f"localhost:{host.port},localhost:1,127.0.0.0/8")
        error: BaseException | None = failed.value
        while error is not None:
            shown.append(str(error))
            error = error.__cause__ or error.__context__
    assert "https://localhost:1/a.png cannot be reached (ConnectionError), 3 times in a row" in shown[-1]
    assert "GET /a.png HTTP/1.1" in caplog.text
    assert "secret" not in caplog.text + "".join(shown)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://images.example.com/a", "images.example.com"),
        ("HTTPS://Images.Example.COM.:443/a", "images.example.com"),
        ("https://images.example.com:8443", "images.example.com:8443"),
        ("https://[::1]:8443/a", "[::1]:8443"),
        ("https://10.0.0.1/a", "10.0.0.1"),
    ],
)
def test_the_host_of_a_url_is_found(url: str, address: str) -> None:
    assert str(parse_address(url)) == address


@pytest.mark.parametrize(
    "url",
    ["", "a.png", "//a", "http://a/", "https://", "https:///a", "https://./a", "https://u@a/",
     "https://u:p@a/", "https://a b/",
     "https://a\\@b/", "https://a\x00/", "https://\xe4.example/", "https://a:99999/", "https://[::1/", "ftp://a/",
     "s3://a/b", "data:,a", "https://a@b@c/"],
)  # fmt: skip
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        parse_address(url)


HOSTS = "images.example.com, *.Trusted.org,other.org:8443,10.1.0.0/16,::1"


@pytest.mark.parametrize(
    ("host", "port", "allowed"),
    [
        ("images.example.com", 443, True),
        ("images.example.com", 8443, False),
        ("evil-images.example.com", 443, False),
        ("images.example.com.evil.org", 443, False),
        ("a.trusted.org", 443, True),
        ("a.b.trusted.org", 443, True),
        ("trusted.org", 443, False),
        ("eviltrusted.org", 443, False),
        ("other.org", 8443, True),
        ("other.org", 443, False),
        ("10.1.2.3", 443, True),
        ("10.2.2.3", 443, False),
        ("::1", 443, True),
        ("93.184.216.34", 443, False),
    ],
)
def test_only_listed_hosts_are_allowed(host: str, port: int, allowed: bool) -> None:
    assert AllowedHosts.parse(HOSTS).allows(Address(host, port)) is allowed
    assert not AllowedHosts().allows(Address(host, port))


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("93.184.216.34", True),
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.1", False),
        ("224.0.0.1", False),
        ("::1", True),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.1.0.1", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("64:ff9b:1::a00:1", False),
        ("64:ff9b:1::5db8:d822", False),
        ("2002:7f00:1::", False),
        ("2002:a02:1::", False),
        ("2002:5db8:d822::", True),
        ("2001:0:4136:e378:8000:63bf:f5fd:fffe", False),
        ("fec0::1", False),
        ("::10.2.0.1", False),
        ("::93.184.216.34", False),
        ("::ffff:0:10.2.0.1", False),
        ("::ffff:0:93.184.216.34", False),
        ("4000::1", False),
        ("ff0e::1", False),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
    ],
)
def test_connections_are_made_to_public_or_listed_addresses_only(peer: str, allowed: bool) -> None:
    assert AllowedHosts.parse(HOSTS).allows_peer(peer) is allowed


@pytest.mark.parametrize(
    "entry", ["https://a.org", "a.org/path", "*", "a_b c", "-a.org", "a.org:port", "10.1.0.1/16"]
)
def test_an_invalid_setting_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"DATASET_URL_HOSTS contains .*; give host names"):
        AllowedHosts.parse(f"good.org,{entry}")


def test_a_url_is_shown_without_its_signature() -> None:
    assert without_query(f"https://a.org/b.png?{SECRET}#c") == "https://a.org/b.png"
