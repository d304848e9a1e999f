from __future__ import annotations

import pytest


@pytest.fixture
def production(bucket: str) -> str:
    """Address of the file of model digits that is in production."""
    return f"s3://{bucket}/models/digits/production/best.pt"
