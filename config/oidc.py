"""FAB's configuration for logins by OpenID Connect, written for Keycloak: docs/access.md says how to use it.

Groups of the identity provider become roles in Airflow; each login updates the user's roles. Users who are in
none of these groups can log in, but see nothing.
"""

from __future__ import annotations

import os

from flask_appbuilder.const import AUTH_OAUTH

_ISSUER = os.environ["OIDC_ISSUER"].rstrip("/")
"""Such as https://keycloak.example.org/realms/training."""

AUTH_TYPE = AUTH_OAUTH
AUTH_USER_REGISTRATION = True
AUTH_USER_REGISTRATION_ROLE = "Public"  # FAB's role without permissions
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {
    "training-viewers": ["Viewer"],
    "training-trainers": ["Viewer", "Trainer"],
    "training-approvers": ["Viewer", "Approver"],
    "training-auditors": ["Viewer", "Auditor"],
    "training-administrators": ["Admin"],
}

OAUTH_PROVIDERS = [
    {
        "name": "keycloak",  # FAB reads Keycloak's claims preferred_username and groups
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_id": os.environ["OIDC_CLIENT_ID"],
            "client_secret": os.environ["OIDC_CLIENT_SECRET"],
            "server_metadata_url": f"{_ISSUER}/.well-known/openid-configuration",
            "api_base_url": f"{_ISSUER}/protocol/",
            "client_kwargs": {"scope": "openid email profile"},
        },
    }
]
