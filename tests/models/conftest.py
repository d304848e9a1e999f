from __future__ import annotations

import pytest


@pytest.fixture
def production(bucket: str) -> str:
    """The URI of the production file of model digits."""
    return f"s3://{bucket}/models/digits/production/best.pt"
