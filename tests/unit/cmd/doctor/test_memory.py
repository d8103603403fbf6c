# SPDX-License-Identifier: Apache-2.0
"""MEM-01..03: shared memory by Nova's two ways, and of guests that run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import FakeRoot
from vif_uswitch.cmd.doctor.host import capacity_of

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


def test_a_tmpfs_of_the_default_size(host: FakeRoot, expect: Expect) -> None:
    """Its options name none then."""
    host.put("/proc/mounts", "tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n")
    host.capacity["/dev/shm"] = 4 << 30
    expect("MEM-02", "PASS")
    host.capacity["/dev/shm"] = (4 << 30) - 4096
    assert "holds 4095 MiB" in expect("MEM-02", "FAIL").text
    host.capacity["/dev/shm"] = 0  # nobody knows
    expect("MEM-02", "PASS")


def test_capacity_of_a_real_file_system(tmp_path: Path) -> None:
    assert capacity_of(tmp_path) == shutil.disk_usage(tmp_path).total
    assert capacity_of(tmp_path / "none") == 0


def test_what_to_do_is_a_tmpfs_first(host: FakeRoot, expect: Expect) -> None:
    nova(host, "[DEFAULT]\n")
    todo = expect("MEM-01", "FAIL").todo
    fstab = "ram /var/lib/libvirt/qemu/ram tmpfs size="
    assert todo.index(fstab) < todo.index("file_backed_memory")
    nova(host, "[DEFAULT]\nram_allocation_ratio = 1.0\nreserved_host_memory_mb = 0\n"
         "[libvirt]\nfile_backed_memory = 512\n")
    host.at("/etc/libvirt/qemu.conf").unlink()
    todo = expect("MEM-02", "WARN").todo
    assert f"{fstab}512m" in todo and "restart" not in todo[:todo.index("or name one")]


def backed(host: FakeRoot, path: str, mebi: int) -> None:
    host.put(path, f"[libvirt]\nfile_backed_memory = {mebi}\n")


@pytest.mark.parametrize("options", [(), ("--config-file", "/etc/nova/nova.conf")])
def test_configuration_directories(
    host: FakeRoot, expect: Expect, options: tuple[str, ...]
) -> None:
    """oslo.config's own; files in the order of their names, the program's after the project's."""
    nova(host, "[DEFAULT]\nram_allocation_ratio = 1.0\nreserved_host_memory_mb = 0\n")
    host.process(200, "python3", "/opt/nova/bin/nova-compute", *options)
    for path, mebi in (("nova.conf.d/20-b.conf", 20), ("nova.conf.d/10-a.conf", 10),
                       ("nova.conf.d/30.txt", 1), ("nova.conf.d/.40.conf", 2)):
        backed(host, f"/etc/nova/{path}", mebi)
    assert "up to 20 MiB" in expect("MEM-01", "PASS").text
    expect("MEM-02", "PASS")
    backed(host, "/etc/nova/nova-compute.conf.d/00.conf", 30)
    assert "up to 30 MiB" in expect("MEM-01", "PASS").text


@pytest.mark.parametrize(("options", "mebi"), [
    (("--config-dir", "/srv/d"), 60),
    (("--config-dir=/srv/d", "--config-file", "/srv/f"), 50),
    (("--config-file", "/srv/f", "--config-dir=/srv/d"), 60),
    (("--config-file=/srv/f",), 50),  # read after the directories that it looks for by itself
    (("--config-dir", "/srv/none"), 4096),
    (("--config-dir",), 70),
])
def test_directories_that_nova_compute_was_given(
    host: FakeRoot, expect: Expect, options: tuple[str, ...], mebi: int
) -> None:
    backed(host, "/srv/f", 50)
    backed(host, "/srv/d/x.conf", 60)
    backed(host, "/etc/nova/nova.conf.d/x.conf", 70)
    host.process(200, "python3", "/opt/nova/bin/nova-compute", *options)
    assert f"up to {mebi} MiB" in expect("MEM-01", "PASS").text


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
