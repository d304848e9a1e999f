"""List the steps, the most important one first."""

from __future__ import annotations

from benchmarks.gpu import exact, loader, memory, profile, save, several, start, task, throughput

STEPS = (
    profile.STEP,
    exact.DETECT,
    exact.OTHERS,
    throughput.STEP,
    save.STEP,
    loader.STEP,
    memory.STEP,
    start.STEP,
    several.STEP,
    task.STEP,
)
