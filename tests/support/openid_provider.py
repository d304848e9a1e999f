"""An identity provider with Keycloak's addresses and claims, for test machines that have no Keycloak.

Every browser that is sent to the provider is logged in as `person`, without a login form.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.support.http_server import Handler, Server

CLIENT = {"OIDC_CLIENT_ID": "airflow", "OIDC_CLIENT_SECRET": "secret of the client"}
"""The environment variables of config/oidc.py, without the provider's address."""

REALM = "/realms/training"
_PROTOCOL = f"{REALM}/protocol/openid-connect"


@dataclass
class Provider:
    """The provider at `url`; `person` holds the claims of the person who logs in next."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    nonce: str = ""
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def issuer(self) -> str:
        """Return the address that identifies the provider."""
        return f"{self.url}{REALM}"

    def describe(self) -> dict[str, Any]:
        """Return the provider's metadata, which is published at its well-known address."""
        at = f"{self.url}{_PROTOCOL}"
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{at}/auth",
            "token_endpoint": f"{at}/token",
            "userinfo_endpoint": f"{at}/userinfo",
            "jwks_uri": f"{at}/certs",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def identify(self) -> str:
        """Return a signed token with the claims of the person who has logged in."""
        now = int(time.time())
        claims = self.person | {
            "iss": self.issuer,
            "aud": CLIENT["OIDC_CLIENT_ID"],
            "sub": self.person["preferred_username"],
            "iat": now,
            "exp": now + 60,
            "nonce": self.nonce,
        }
        return jwt.encode(claims, self._key, "RS256", headers={"kid": "1"})

    def certificates(self) -> dict[str, Any]:
        """Return the keys that verify tokens."""
        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [key | {"kid": "1", "alg": "RS256", "use": "sig"}]}


@contextmanager
def providing() -> Iterator[Provider]:
    """Serve an identity provider; yield it."""
    provider = Provider()

    class Keycloak(Handler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            given = {name: values[0] for name, values in parse_qs(address.query).items()}
            match address.path.removeprefix(REALM):
                case "/.well-known/openid-configuration":
                    self.answer(provider.describe())
                case "/protocol/openid-connect/auth":
                    provider.nonce = given["nonce"]
                    code = urlencode({"code": "1", "state": given["state"]})
                    self.respond(302, headers={"Location": f"{given['redirect_uri']}?{code}"})
                case "/protocol/openid-connect/certs":
                    self.answer(provider.certificates())
                case "/protocol/openid-connect/userinfo":
                    self.answer({"sub": provider.person["preferred_username"]} | provider.person)
                case _:
                    self.send_error(404)

        def do_POST(self) -> None:
            self.body()
            token = {"access_token": "1", "token_type": "Bearer", "expires_in": 300}
            self.answer(token | {"id_token": provider.identify()})

        def answer(self, content: dict[str, Any]) -> None:
            self.respond(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    with Server(Keycloak) as server:
        provider.url = server.url
        yield provider
