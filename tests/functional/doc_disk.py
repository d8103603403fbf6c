# SPDX-License-Identifier: Apache-2.0
"""Disk images that boot by the firmware, for guests that a page's reader installs or imports.

A FAT file system with a boot loader, Debian's kernel and an initramfs whose
init (doc_guest/) takes commands on the only serial port.  One for all guests:
name and address of each are words in its boot loader's configuration.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from testbed import accel, initramfs, kernel
from testbed.cache import Cache, file_digest

HERE = Path(__file__).resolve().parent
PROGRAMS = ("mkfs.vfat", "mcopy", "syslinux", "qemu-img", "virt-install")
SIZE = 64 << 20
FLAVOUR = "linux-image-cloud-amd64"  # an emulated processor decompresses it in half the time
_TOOLS = {path.name: path for path in initramfs.GUEST.scripts}
CONTENTS = initramfs.Image(
    ("virtio_pci", "virtio_net"),
    (("dash", "dash"), ("ping", "iputils-ping"), ("ip", "iproute2")),
    (HERE / "doc_guest/init", _TOOLS["guest-commands"], _TOOLS["guest-net"]),
)
CONFIG = """DEFAULT linux
LABEL linux
  KERNEL vmlinuz
  INITRD initrd
  APPEND console=tty0 quiet panic=-1 mitigations=off {accel} {words}
"""


def why_not() -> str:
    """What is missing to make one, "" if nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    return f"{', '.join(missing)} missing: make setup installs it" if missing else ""


class Disks:
    """Makes images; ``kvm``: whether guests really boot on it here."""

    def __init__(self, cache: Cache) -> None:
        small = kernel.for_boot_loader(cache, _quiet, FLAVOUR)
        self._kernel = small.vmlinux
        self._initramfs = initramfs.build(cache, small, CONTENTS)
        usual = kernel.fetch(cache, _quiet)
        found = accel.choose(cache, usual.vmlinux, initramfs.build(cache, usual))
        self.kvm = found.name == "kvm"
        self._words = " ".join(found.kernel_words)
        self._base = cache.get("doc-disk", file_digest(self._kernel)[:12] +
                               file_digest(self._initramfs)[:12], self._make) / "disk"

    def _make(self, work: Path) -> None:
        disk = work / "disk"
        with disk.open("wb") as file:
            file.truncate(SIZE)
        _do("mkfs.vfat", disk)
        for source, name in ((self._kernel, "vmlinuz"), (self._initramfs, "initrd")):
            _do("mcopy", "-i", disk, source, f"::{name}")
        _do("syslinux", "--install", disk)

    def write(self, path: Path, name: str, ip: str) -> None:
        """A qcow2 image of a guest of that name, with that address ("10.0.0.1/24")."""
        with tempfile.TemporaryDirectory(prefix="uswitch-disk-") as scratch:
            disk = shutil.copy(self._base, Path(scratch, "disk"))
            config = Path(scratch, "syslinux.cfg")
            words = f"guest.name={name} guest.ip={ip}"
            config.write_text(CONFIG.format(accel=self._words, words=words))
            _do("mcopy", "-i", disk, config, "::syslinux.cfg")
            _do("qemu-img", "convert", "-O", "qcow2", disk, path)


def _quiet(_: str) -> None:
    """Progress that nobody waits for."""


def _do(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert done.returncode == 0, (words, done.stdout, done.stderr)
