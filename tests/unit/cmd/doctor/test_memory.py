# SPDX-License-Identifier: Apache-2.0
"""MEM-01..03: shared memory by Nova's two ways, and of guests that run."""

from __future__ import annotations

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import FakeRoot

PAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB"


def nova(host: FakeRoot, text: str) -> None:
    host.put("/etc/nova/nova.conf", text)


def hugepages(host: FakeRoot, total: int, free: int) -> None:
    host.put(f"{PAGES}/nr_hugepages", f"{total}\n")
    host.put(f"{PAGES}/free_hugepages", f"{free}\n")


def test_file_backed_memory(host: FakeRoot, expect: Expect) -> None:
    assert "4096 MiB" in expect("MEM-01", "PASS").text
    assert "/dev/shm/g, on tmpfs" in expect("MEM-02", "PASS").text


def test_huge_pages(host: FakeRoot, expect: Expect) -> None:
    nova(host, "[DEFAULT]\n")
    assert "refuses a vhost-user interface" in expect("MEM-01", "FAIL").text
    hugepages(host, 512, 0)
    assert "0 of 512 huge pages of 2.0 MiB free" in expect("MEM-01", "WARN").text
    hugepages(host, 512, 100)
    assert "100 of 512" in expect("MEM-01", "PASS").text
    expect("MEM-02", "SKIP")
    host.put(f"{PAGES}/free_hugepages", "many\n")
    expect("MEM-01", "WARN")


def test_without_nova(empty: FakeRoot, expect: Expect) -> None:
    assert "no Nova here" in expect("MEM-01", "PASS").text
    expect("MEM-02", "SKIP")
    expect("MEM-03", "SKIP")


@pytest.mark.parametrize("text", ["no section\n", "[a\n", "[libvirt]\nfile_backed_memory=lots\n"])
def test_nova_conf_is_garbage(host: FakeRoot, expect: Expect, text: str) -> None:
    nova(host, text)
    assert "nova.conf" in expect("MEM-01", "FAIL").text + expect("MEM-01", "FAIL").todo
    expect("MEM-02", "SKIP")


@pytest.mark.parametrize(("options", "says"), [
    ("reserved_host_memory_mb = 0", "ram_allocation_ratio is not set"),
    ("ram_allocation_ratio = 1.5\nreserved_host_memory_mb = 0", "ram_allocation_ratio is 1.5"),
    ("ram_allocation_ratio = 1.0", "reserved_host_memory_mb is not set"),
    ("ram_allocation_ratio = x\nreserved_host_memory_mb = 0", "ram_allocation_ratio is x"),
])
def test_what_nova_compute_would_not_start_with(
    host: FakeRoot, expect: Expect, options: str, says: str
) -> None:
    nova(host, f"[DEFAULT]\n{options}\n[libvirt]\nfile_backed_memory = 4096\n")
    assert says in expect("MEM-02", "FAIL").text


def test_memory_on_a_disk(host: FakeRoot, expect: Expect) -> None:
    host.at("/etc/libvirt/qemu.conf").unlink()
    found = expect("MEM-02", "WARN")
    assert "/var/lib/libvirt/qemu/ram is on ext4" in found.text
    host.at("/proc/mounts").unlink()
    assert "unknown file system" in expect("MEM-02", "WARN").text


def test_a_tmpfs_that_is_too_small(host: FakeRoot, expect: Expect) -> None:
    host.put("/proc/mounts", "tmpfs /dev/shm tmpfs rw,size=1048576k 0 0\n")
    found = expect("MEM-02", "FAIL")
    assert "holds 1024 MiB" in found.text and "size=4096m /dev/shm" in found.todo


def test_files_that_nova_compute_was_given(host: FakeRoot, expect: Expect) -> None:
    """Its command line counts, not where files usually are."""
    host.put("/srv/my.conf", "[libvirt]\nfile_backed_memory = 7\n")
    host.process(200, "python3", "/opt/nova/bin/nova-compute", "--config-file", "/srv/my.conf")
    assert "7 MiB" in expect("MEM-01", "PASS").text
    host.process(200, "python3", "/opt/nova/bin/nova-compute", "--config-file=/srv/my.conf")
    assert "7 MiB" in expect("MEM-01", "PASS").text


@pytest.mark.parametrize(("memory", "status"), [
    ("memory-backend-memfd,id=m,share=on", "PASS"),
    ('{"qom-type":"memory-backend-file","share":true}', "PASS"),
    ("memory-backend-ram,id=m", "FAIL"),
    ('{"qom-type":"memory-backend-file","share":false}', "FAIL"),
])
@pytest.mark.parametrize("nic", ["vhost-user,id=n0,chardev=c", '{"type":"vhost-user","id":"n"}'])
def test_guests_that_run(
    host: FakeRoot, expect: Expect, memory: str, status: str, nic: str
) -> None:
    host.process(300, "qemu-system-x86_64", "-object", memory, "-netdev", nic)
    expect("MEM-03", status)
    host.process(300, "qemu-system-x86_64", "-object", memory, "-device", "vhost-user-fs-pci")
    expect("MEM-03", "SKIP")
