"""The MLflow server of this deployment."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from include.tracking.errors import TrackingSettingsError

if TYPE_CHECKING:
    from include.tracking.server import TrackingServer

log = logging.getLogger(__name__)


def find_tracking_server() -> TrackingServer | None:
    """Return the server set in the environment; None if there is none, or if it is invalid (logged).

    Not part of Settings, because an invalid address must not stop a job.
    """
    from include.tracking.server import TrackingServer

    try:
        return TrackingServer.from_environment(os.environ)
    except TrackingSettingsError as error:
        log.warning("%s. Nothing is sent to MLflow until this is corrected.", error)
        return None
