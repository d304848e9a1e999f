"""Creates the certificates that authenticate the parts of an S3 server to each other.

SeaweedFS' master, volume server, filer, gateway and admin server talk over the network, even within one
process. By default, they accept commands from any client. With these certificates, each part requires that
its HTTP and gRPC clients have a certificate from the same authority. Only the S3 API accepts clients without
a certificate; it checks the signatures of their requests instead.

    python -m include.stack.certificates FOLDER     docker-compose.yaml runs this before its S3 server
"""

from __future__ import annotations

import argparse
import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from include.stack.ports import LOOPBACK
from include.stack.private_files import make_private_folder, write_private

VALIDITY = timedelta(days=3650)

RENEWAL = timedelta(days=365)
"""Certificates are renewed this long before they expire: a server reads them once and may run for months."""

_CLOCK_SKEW = timedelta(days=1)

_GRPC_COMPONENTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTP_COMPONENTS = ("master", "volume", "filer", "admin", "client")


def prepare_certificates(folder: Path) -> None:
    """Turn `folder` into a configuration folder of `weed`: security.toml, and the certificates that it names.

    Existing certificates are kept until renewal is due: a server may be using them. Raises StackError.
    """
    make_private_folder(folder)
    configuration = _render_configuration(folder.resolve())
    if _is_usable(folder, configuration):
        return
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _begin_certificate("SeaweedFS authority", authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _begin_certificate("SeaweedFS", key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    # The authority's key is not stored, so that it cannot sign any other certificate.
    for name, builder in (("authority.pem", authority), ("certificate.pem", certificate)):
        signed = builder.sign(authority_key, hashes.SHA256())
        write_private(folder / name, signed.public_bytes(Encoding.PEM))
    write_private(folder / "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(folder / "security.toml", configuration)


def _begin_certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(_build_name("SeaweedFS authority"))
        .subject_name(_build_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _build_name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _render_configuration(folder: Path) -> str:
    """Return the content of security.toml.

    The file names every component, because a component that is missing there would not use TLS.
    """
    pair = f"cert = {_quote(folder / 'certificate.pem')}\nkey = {_quote(folder / 'key.pem')}\n"
    authority = f"ca = {_quote(folder / 'authority.pem')}\n"
    sections = [f"[grpc]\n{authority}"]
    sections += [f"[grpc.{component}]\n{pair}" for component in _GRPC_COMPONENTS]
    sections += [f"[https.{component}]\n{pair}{authority}" for component in _HTTP_COMPONENTS]
    return "\n".join(sections).replace("[https.client]\n", "[https.client]\nenabled = true\n")


def _quote(path: Path) -> str:
    """Return the path as a TOML string, which has the same escapes as JSON."""
    return json.dumps(str(path), ensure_ascii=False)


def _is_usable(folder: Path, configuration: str) -> bool:
    """Return whether the files match each other and this folder, are valid now, and do not expire soon.

    If they were created while the clock was wrong, they may not be valid yet.
    """
    try:
        if (folder / "security.toml").read_text() != configuration:
            return False
        authority, certificate = (
            x509.load_pem_x509_certificate((folder / name).read_bytes())
            for name in ("authority.pem", "certificate.pem")
        )
        certificate.verify_directly_issued_by(authority)
        key = load_pem_private_key((folder / "key.pem").read_bytes(), password=None)
    except Exception:  # missing, truncated or from another authority: in each case, replace all files
        return False
    now = datetime.now(UTC)
    begins = max(authority.not_valid_before_utc, certificate.not_valid_before_utc)
    expires = min(authority.not_valid_after_utc, certificate.not_valid_after_utc)
    return key.public_key() == certificate.public_key() and begins <= now < expires - RENEWAL


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m include.stack.certificates", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder for security.toml and the certificates")
    prepare_certificates(parser.parse_args().folder)
