"""Waiting between tries: the only sleep of the client, so that nothing else has to know the clock."""

from __future__ import annotations

import asyncio
import time


async def async_pause(seconds: float) -> None:
    """Let other tasks run for so long."""
    await asyncio.sleep(seconds)


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
