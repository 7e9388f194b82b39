"""Tests of `gateway.memory`, in a process of its own: what it freezes stays frozen."""

import subprocess
import sys

SETTLE = """
import gc
from gateway import memory
kept = [bytearray(4096) for _ in range(4096)]
memory.settle()
assert gc.get_freeze_count() > 0
assert all(piece == bytes(4096) for piece in kept)
"""


def test_settling_keeps_the_memory_and_freezes_what_is_in_it() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", SETTLE], check=True, timeout=30)
