"""The check with which every Dag that uses the training database starts."""

from __future__ import annotations

from include.deployment.connections import open_training_db
from include.orchestration.failures import no_retry
from include.schema.current import require_current


def require_current_schema() -> None:
    """Fail at once, without a retry, if the schema is not the revision that this code requires."""
    with open_training_db() as connection, no_retry():
        require_current(connection)
