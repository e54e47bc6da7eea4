from __future__ import annotations

import os
from pathlib import Path

import pytest

from newsie import cores
from newsie.cores import count_cores


def process(folder: Path, groups: str, mounts: str) -> Path:
    """A folder like /proc/self."""
    (folder / "cgroup").write_text(groups)
    (folder / "mountinfo").write_text(mounts)
    return folder


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def quotas(folder: Path) -> list[float]:
    return list(cores._quotas(folder))


def test_version_2_with_a_quota_around_the_group(tmp_path: Path) -> None:
    mount = tmp_path / "fs"
    write(mount / "pods" / "mine", cpu__max="max 100000\n")
    write(mount / "pods", cpu__max="150000 100000\n")
    line = f"30 23 0:26 / {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert quotas(process(tmp_path, "0::/pods/mine\n", line)) == [1.5]


def test_version_1_with_a_quota_of_its_own(tmp_path: Path) -> None:
    mount = tmp_path / "fs"
    write(mount / "a", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    write(mount, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    lines = (
        f"31 23 0:27 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
        f"32 23 0:28 / {mount} rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 23 0:29 / /proc rw - proc proc rw\n"
    )
    assert min(quotas(process(tmp_path, "5:memory:/a\n4:cpu,cpuacct:/a\n", lines))) == 0.5


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    mount = tmp_path / "fs"
    write(mount, cpu__max="200000 100000\n")
    for root, group in (("/docker/12ab", "/docker/12ab"), ("/", "/../elsewhere"), ("/x", "/y")):
        line = f"30 23 0:26 {root} {mount} rw - cgroup2 cgroup2 rw\n"
        assert 2.0 in quotas(process(tmp_path, f"0::{group}\n", line))


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert quotas(tmp_path) == []


@pytest.mark.parametrize(
    ("quota", "count"), [([0.5], 1), ([1.5], 2), ([3.0, 2.0], 2), ([99.0], 8), ([], 8)]
)
def test_the_smallest_limit_counts_and_part_of_a_core_is_one(
    monkeypatch: pytest.MonkeyPatch, quota: list[float], count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_quotas", lambda process: iter(quota))
    assert count_cores() == count


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_cores() == 1
