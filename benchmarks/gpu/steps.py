"""The steps, the most important one first."""

from __future__ import annotations

from benchmarks.gpu import exact, loader, profile, throughput

STEPS = (profile.STEP, exact.DETECT, exact.OTHERS, throughput.STEP, loader.STEP)
