"""Small disks, mounted for a test: they become full, and read-only, as real ones do."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Callable[[str], None]]:
    """Mount a disk of this size in memory; yield what mounts it anew with other options, as `ro`."""
    folder.mkdir(exist_ok=True)

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    if os.geteuid() != 0 or mount(f"size={size}"):
        pytest.skip("a disk can be mounted by root alone")

    def remount(options: str) -> None:
        assert not mount("remount", options)

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
