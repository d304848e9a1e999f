"""Certificates by which the parts of one S3 server know each other and refuse everybody else.

SeaweedFS' master, volume server, filer, gateway and admin server talk over the network even within one
process, and by default obey whoever reaches their ports. With these, each of them demands a certificate of
the same authority over HTTP and gRPC. Only S3, which checks signatures, stays open to clients without one.

    python -m include.stack.certificates FOLDER     what docker-compose.yaml runs before its S3 server
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
from include.stack.private_files import private_folder, write_private

VALIDITY = timedelta(days=3650)

RENEWAL = timedelta(days=365)
"""A server may run for months after it has read them, so they are renewed that long before they expire."""

_CLOCK_SKEW = timedelta(days=1)

_GRPC_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTP_PARTS = ("master", "volume", "filer", "admin", "client")


def prepare_certificates(folder: Path) -> None:
    """Make `folder` a configuration folder of `weed`: security.toml, and the certificates that it names.

    Those that are there stay while they can be used: a server may be running with them. Raises StackError.
    """
    private_folder(folder)
    configuration = _configuration(folder.resolve())
    if _usable(folder, configuration):
        return
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _builder("SeaweedFS authority", authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder("SeaweedFS", key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    # The authority's key is kept nowhere: nobody can issue another certificate.
    for name, builder in (("authority.pem", authority), ("certificate.pem", certificate)):
        signed = builder.sign(authority_key, hashes.SHA256())
        write_private(folder / name, signed.public_bytes(Encoding.PEM))
    write_private(folder / "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(folder / "security.toml", configuration)


def _builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(_name("SeaweedFS authority"))
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _configuration(folder: Path) -> str:
    """Write security.toml. A part without a certificate would fall back on no TLS, so all are named."""
    pair = f"cert = {_quoted(folder / 'certificate.pem')}\nkey = {_quoted(folder / 'key.pem')}\n"
    authority = f"ca = {_quoted(folder / 'authority.pem')}\n"
    sections = [f"[grpc]\n{authority}"]
    sections += [f"[grpc.{part}]\n{pair}" for part in _GRPC_PARTS]
    sections += [f"[https.{part}]\n{pair}{authority}" for part in _HTTP_PARTS]
    return "\n".join(sections).replace("[https.client]\n", "[https.client]\nenabled = true\n")


def _quoted(path: Path) -> str:
    """Write the path as a string of TOML, whose escapes are those of JSON."""
    return json.dumps(str(path), ensure_ascii=False)


def _usable(folder: Path, configuration: str) -> bool:
    """Tell whether the files belong together, lie where they say, and do not expire soon."""
    try:
        if (folder / "security.toml").read_text() != configuration:
            return False
        authority, certificate = (
            x509.load_pem_x509_certificate((folder / name).read_bytes())
            for name in ("authority.pem", "certificate.pem")
        )
        certificate.verify_directly_issued_by(authority)
        key = load_pem_private_key((folder / "key.pem").read_bytes(), password=None)
    except Exception:  # missing, truncated, of another authority: made anew in any case
        return False
    expires = min(authority.not_valid_after_utc, certificate.not_valid_after_utc)
    return key.public_key() == certificate.public_key() and expires > datetime.now(UTC) + RENEWAL


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m include.stack.certificates", description=__doc__)
    parser.add_argument("folder", type=Path, help="where security.toml and the certificates go")
    prepare_certificates(parser.parse_args().folder)
