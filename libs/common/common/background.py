"""Loops that run beside the requests of a process."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def in_background(loop: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `loop` until the end of the block. A turn that fails it has to survive itself: nobody starts it again."""
    running = asyncio.create_task(loop)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
