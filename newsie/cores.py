"""The number of processor cores that this process may use.

A container is limited by a quota of processor time, not by the number of cores that it sees. With
`docker --cpus=1` on a machine of 64 cores, 64 threads would be throttled most of the time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["count_cores"]


def count_cores() -> int:
    """Count the cores that this process may use, at least 1.

    These are the cores that it may be scheduled on, or fewer if the quota of a control group (version 1 or 2,
    its own or any parent) allows fewer. A fraction of a core counts as one.
    """
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(Path("/proc/self"))])))


def _quotas(process: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups of a process and of their parents."""
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return
    for kind, root, mount in filter(None, map(_cgroup_mount, mounts)):
        for group in groups:
            _, controllers, path = group.split(":", 2)
            if kind == "cgroup2" and not controllers:
                yield from _walk(mount, root, path, _quota_v2)
            elif kind == "cgroup" and "cpu" in controllers.split(","):
                yield from _walk(mount, root, path, _quota_v1)


def _cgroup_mount(line: str) -> tuple[str, str, Path] | None:
    """Return kind, root and mount point of a hierarchy that can limit processor time, else None.

    The fields of a line of /proc/self/mountinfo are: id, parent, device, root, mount point, options ... -
    type, source, options of the file system (see proc(5)).
    """
    left, _, right = line.partition(" - ")
    fields, (kind, _, options) = left.split(" "), right.split(" ", 2)
    if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
        return kind, fields[3], Path(fields[4])
    return None


def _walk(mount: Path, root: str, path: str, quota: Callable[[Path], float]) -> Iterator[float]:
    """Yield the quota of a group and of each of its parents, up to the mount point of the hierarchy."""
    inner = PurePosixPath(path)
    # In a container, the mounted root may be the group itself, or a group with another name outside.
    below = inner.relative_to(root) if inner.is_relative_to(root) else PurePosixPath()
    for folder in (below, *below.parents):
        with suppress(OSError, ValueError, ZeroDivisionError):  # the file is missing, or says "max"
            yield quota(mount / folder)


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    return int(quota) / int(period)


def _quota_v1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
    return (
        quota / int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        if quota > 0
        else math.inf
    )
