from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.airflow_connections import lead_to

if TYPE_CHECKING:
    from pathlib import Path

    from include.stack.s3 import S3


@pytest.fixture
def airflow_connections(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, bucket: str, tmp_path: Path
) -> None:
    """Let Airflow's connections lead to the schema of the file's tests, and to a bucket of their own."""
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path / "training")
