"""Runs the processes of the table: starts them, shows their lines, notices when one ends, stops them in their turns.

Not honcho: it puts a shell and a helper process around each command, so a killed parent leaves them all behind; it
starts and stops everything at once, in no order; and it cannot tell a service that listens from one that was started.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import httpx

from devstack.console import Console
from devstack.launch import dies_with_parent, tethered
from devstack.services import Process
from devstack.settings import CLONE

READY_SECONDS = 90
READY_POLL_SECONDS = 0.1
# Longer than uvicorn's own grace for open requests.
STOP_SECONDS = 15
TAIL_LINES = 20
LONGEST_LINE = 65536
Story = TypeVar("Story")


class ProcessError(RuntimeError):
    """A process ended or did not get ready; the message ends with its last lines."""


@dataclass
class Child:
    """A started process."""

    spec: Process
    process: asyncio.subprocess.Process
    tail: deque[str]
    reading: asyncio.Task[None]


class Runner:
    """The running processes. Use from the main thread: with its end Linux kills them all."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._children: list[Child] = []
        self._watching: list[asyncio.Task[None]] = []
        self._died: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._hurry = asyncio.Event()
        self.stopping = False

    async def run(self, spec: Process) -> None:
        """Runs a process to its end, which must be a good one."""
        child = await self._spawn(spec)
        code = await child.process.wait()
        await child.reading
        self._children.remove(child)
        if code != 0:
            raise ProcessError(f"{spec.name} failed (exit code {code}):\n{_tail(child)}")

    async def start(self, spec: Process) -> None:
        """Starts a process that must go on until `stop`; its socket is its own from now on."""
        child = await self._spawn(spec)
        if spec.listener:
            spec.listener.socket.close()
        self._watching.append(asyncio.create_task(self._watch(child)))

    async def ready(self) -> None:
        """Waits until every service that listens says on `/readyz` that it is ready."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            await asyncio.gather(*(self._wait_ready(child, client) for child in self._children if child.spec.listener))

    async def guard(self, story: Coroutine[Any, Any, Story]) -> Story:
        """Awaits `story`, which fails as soon as a started process ends."""
        task = asyncio.create_task(story)
        either: set[asyncio.Future[Any]] = {task, self._died}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._died.done() and not task.done():
                child = self._died.result()
                code = child.process.returncode
                raise ProcessError(f"{child.spec.name} ended by itself (exit code {code}):\n{_tail(child)}")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return task.result()

    async def stop(self) -> None:
        """Stops what still runs, turn by turn."""
        self.stopping = True
        for task in self._watching:
            task.cancel()
        by_turn = sorted(self._children, key=lambda child: child.spec.stop_turn)
        for _, children in groupby(by_turn, key=lambda child: child.spec.stop_turn):
            await asyncio.gather(*(self._stop(child) for child in children))

    def hurry(self) -> None:
        """Makes `stop` kill instead of asking."""
        self._hurry.set()

    async def _spawn(self, spec: Process) -> Child:
        process = await asyncio.create_subprocess_exec(
            *tethered(spec.command, signal.SIGKILL),
            cwd=CLONE,
            env=dict(spec.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=[spec.listener.socket.fileno()] if spec.listener else [],
            start_new_session=True,  # a Ctrl-C is ours to hand on, in order
            preexec_fn=dies_with_parent(signal.SIGKILL),  # when we were killed, nobody could insist on a polite end
        )
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        child = Child(spec, process, tail, asyncio.create_task(self._read(spec.name, process, tail)))
        self._children.append(child)
        return child

    async def _read(self, name: str, process: asyncio.subprocess.Process, tail: deque[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        rest = b""
        while chunk := await process.stdout.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._show(name, line, tail)
        if rest:
            self._show(name, rest, tail)

    def _show(self, name: str, line: bytes, tail: deque[str]) -> None:
        text = line.decode(errors="replace").rstrip()
        tail.append(text)
        self._console.line(name, text)

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        with suppress(TimeoutError):  # what it started may still hold the pipe
            await asyncio.wait_for(asyncio.shield(child.reading), 1)
        if not self._died.done():
            self._died.set_result(child)

    async def _wait_ready(self, child: Child, client: httpx.AsyncClient) -> None:
        assert child.spec.listener is not None  # noqa: S101 - only those are asked
        address, reason = f"{child.spec.listener.url}/readyz", "it does not answer"
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    try:
                        response = await client.get(address)
                    except httpx.TransportError as error:
                        reason = f"it does not answer ({type(error).__name__})"
                    else:
                        if response.is_success:
                            return
                        reason = f"/readyz says {response.status_code}: {response.text[:500]}"
                    await asyncio.sleep(READY_POLL_SECONDS)
        raise ProcessError(f"{child.spec.name} is not ready after {READY_SECONDS} s, {reason}\n{_tail(child)}")

    async def _stop(self, child: Child) -> None:
        process = child.process
        ended = asyncio.create_task(process.wait())
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait({ended, hurry}, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not ended.done():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its own session, so its children too
        # Both also wait for the pipe, which something it started may hold open for ever.
        await asyncio.wait({ended, child.reading}, timeout=1)
        ended.cancel()
        child.reading.cancel()


def _tail(child: Child) -> str:
    return "\n".join(f"  {child.spec.name} | {line}" for line in child.tail)
