"""Cores and memory events, from cgroup files of both versions."""

import os
from pathlib import Path

import pytest

from finetune_trainer.shared.host import (
    cores,
    free_port,
    interface_of,
    out_of_memory_kills,
    own_address,
    reachable,
    threads_per_rank,
)


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("text", "expected"), [("max 100000", 16), ("400000 100000", 4), ("50000 100000", 1)])
def test_cores_under_cgroup_v2(tmp_path: Path, text: str, expected: int) -> None:
    put(tmp_path / "cpu.max", text)
    assert cores(tmp_path) == expected


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("250000", 2)])
def test_cores_under_cgroup_v1(tmp_path: Path, quota: str, expected: int) -> None:
    put(tmp_path / "cpu" / "cpu.cfs_quota_us", quota)
    put(tmp_path / "cpu" / "cpu.cfs_period_us", "100000")
    assert cores(tmp_path) == expected


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("text", "expected"), [("800000 100000", 4), ("100000 100000", 1), ("max 100000", 1)])
def test_a_rank_uses_its_share_of_the_limit_and_one_thread_without(tmp_path: Path, text: str, expected: int) -> None:
    put(tmp_path / "cpu.max", text)
    assert threads_per_rank(2, tmp_path) == expected


def test_memory_kills_under_cgroup_v2(tmp_path: Path) -> None:
    put(tmp_path / "memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n")
    put(tmp_path / "self", "0::/\n")
    assert out_of_memory_kills(tmp_path, tmp_path / "self") == 2


def test_memory_kills_under_cgroup_v1(tmp_path: Path) -> None:
    put(tmp_path / "memory" / "pod" / "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    put(tmp_path / "self", "9:cpu,cpuacct:/pod\n4:memory:/pod\n")
    assert out_of_memory_kills(tmp_path, tmp_path / "self") == 1


def test_without_cgroups_nothing_is_claimed(tmp_path: Path) -> None:
    assert out_of_memory_kills(tmp_path, tmp_path / "self") == 0


def test_interface_is_the_one_that_holds_the_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("127.0.0.9") == "lo"
    assert interface_of("192.0.2.77") is None


@pytest.mark.parametrize(
    ("addresses", "best"),
    [
        (["10.0.0.7", "fd00::7"], "10.0.0.7"),
        (["169.254.172.2", "fd00::7"], "fd00::7"),
        (["169.254.172.2"], "169.254.172.2"),
        (["fe80::1%eth0", "fd00::7"], "fd00::7"),
        ([], None),
    ],
)
def test_an_address_that_ends_at_the_machine_is_the_last_choice(addresses: list[str], best: str | None) -> None:
    assert reachable(addresses) == best


def test_own_address_towards_loopback_is_loopback() -> None:
    assert own_address(("127.0.0.1", 9)) == "127.0.0.1"
    assert 0 < free_port("127.0.0.1") < 65536
