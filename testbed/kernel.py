# SPDX-License-Identifier: Apache-2.0
"""The guests' kernel: Debian's own, taken from its package and never installed.

``fetch()`` asks apt which package ``linux-image-amd64`` stands for, downloads that one file,
unpacks the few modules a guest needs and decompresses ``vmlinux``: QEMU starts an ELF kernel
directly (PVH), which spares every emulated boot some seconds of decompression.  The result is
cached by package version, and a machine without network goes on with the newest one it has.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed import TestbedError
from testbed.cache import Cache, digest

KIND = "kernel"
CHOICE = "package"
AS_PACKED = "kernel-as-packed"
# A change of any of these can change what apt would install.
APT_STATE = ("/var/lib/apt/lists", "/etc/apt/sources.list", "/etc/apt/sources.list.d",
             "/etc/apt/preferences", "/etc/apt/preferences.d")
DEFAULT_FLAVOUR = "linux-image-amd64"
DOWNLOAD_SECONDS = 600

# By purpose: the NIC under test with its bus, VLAN interfaces for trunk tests; then what a guest
# needs that is a host itself: VFIO, the real host's files over 9p, igb's own driver, TAP and veth.
UNPACKED = (
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.*",
    "./lib/modules/*/kernel/drivers/net/virtio_net.ko*",
    "./lib/modules/*/kernel/drivers/net/net_failover.ko*",
    "./lib/modules/*/kernel/net/core/failover.ko*",
    "./lib/modules/*/kernel/drivers/virtio/*",
    "./lib/modules/*/kernel/net/8021q/*",
    "./lib/modules/*/kernel/net/802/*",
    "./lib/modules/*/kernel/net/llc/*",
    "./lib/modules/*/kernel/drivers/vfio/*",
    "./lib/modules/*/kernel/drivers/iommu/iommufd/*",
    "./lib/modules/*/kernel/virt/lib/*",
    "./lib/modules/*/kernel/net/9p/*",
    "./lib/modules/*/kernel/fs/9p/*",
    "./lib/modules/*/kernel/fs/netfs/*",
    "./lib/modules/*/kernel/fs/fscache/*",
    "./lib/modules/*/kernel/fs/overlayfs/*",
    "./lib/modules/*/kernel/drivers/net/ethernet/intel/igb/*",
    "./lib/modules/*/kernel/drivers/dca/*",
    "./lib/modules/*/kernel/drivers/i2c/algos/i2c-algo-bit.ko*",
    "./lib/modules/*/kernel/drivers/ptp/ptp.ko*",
    "./lib/modules/*/kernel/drivers/pps/pps_core.ko*",
    "./lib/modules/*/kernel/drivers/net/tun.ko*",
    "./lib/modules/*/kernel/drivers/net/veth.ko*",
)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: ``vmlinux`` to boot, ``modules`` to choose from."""

    package: str
    version: str  # of the package, so a security update makes a new entry
    release: str  # what ``uname -r`` says in the guest
    vmlinux: Path
    modules: Path  # .../lib/modules/RELEASE, with modules.dep


@dataclass(frozen=True, slots=True)
class Package:
    """A concrete package apt can download."""

    name: str
    version: str
    size: int


def fetch(cache: Cache, progress: Progress, flavour: str = DEFAULT_FLAVOUR) -> Kernel:
    """The kernel of ``flavour``, from the cache or from the Debian archive."""
    try:
        package = choose(cache, flavour)
        # Another choice of files makes another entry of the same kernel.
        key = f"{package.name}_{package.version}_{digest(*UNPACKED)[:6]}"
        entry = cache.get(KIND, key, lambda work: _build(work, package, progress))
    except TestbedError as error:
        older = cache.entries(KIND)
        if not older:
            raise
        progress(f"{error}; using the cached {older[0].name}")
        entry = older[0]
    return load(entry)


def for_boot_loader(cache: Cache, progress: Progress, flavour: str) -> Kernel:
    """A kernel as its package has it: ``vmlinux`` is the compressed one.  Kept apart."""
    package = choose(cache, flavour)

    def make(work: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="uswitch-kernel-") as scratch:
            _unpack(_download(Path(scratch), package, progress), work)
        image = next(iter((work / "boot").glob("vmlinuz-*")))
        release = image.name.removeprefix("vmlinuz-")
        image.rename(work / "vmlinux")
        _depmod(work, release)
        _describe(work, package, release)

    return load(cache.get(AS_PACKED, f"{package.name}_{package.version}", make))


def load(entry: Path) -> Kernel:
    """Read a finished cache entry."""
    about = json.loads((entry / "about.json").read_text())
    return Kernel(
        package=about["package"],
        version=about["version"],
        release=about["release"],
        vmlinux=entry / "vmlinux",
        modules=entry / "lib" / "modules" / about["release"],
    )


def choose(cache: Cache, flavour: str) -> Package:
    """What ``resolve()`` found, for as long as apt's lists stay the same: asking takes seconds."""
    def make(work: Path) -> None:
        (work / "package.json").write_text(json.dumps(asdict(resolve(flavour))))

    stamps = [Path(path).stat().st_mtime_ns if os.path.exists(path) else 0 for path in APT_STATE]
    entry = cache.get(CHOICE, digest(flavour, *stamps), make)
    return Package(**json.loads((entry / "package.json").read_text()))


def resolve(flavour: str) -> Package:
    """Follow the metapackage to the package that holds a kernel."""
    name = flavour
    for _ in range(3):
        fields = _apt_fields(name)
        depends = re.findall(r"\b(linux-image-[0-9][^\s,|(]*)", fields.get("Depends", ""))
        if not depends:
            return Package(name, fields["Version"], int(fields.get("Size", "0")))
        name = depends[0]
    raise TestbedError(f"{flavour} does not lead to a kernel package")


def _apt_fields(name: str) -> dict[str, str]:
    try:
        shown = subprocess.run(
            ["apt-cache", "--no-all-versions", "show", name],
            capture_output=True, text=True, check=False, timeout=60,
        )
    except FileNotFoundError as error:
        raise TestbedError("apt-cache is missing: the guests' kernel comes from Debian") from error
    fields = dict(re.findall(r"^(\S+): (.*)$", shown.stdout, re.MULTILINE))
    if "Version" not in fields:
        raise TestbedError(f"apt knows no package {name}: run 'apt-get update' first")
    return fields


def _build(work: Path, package: Package, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="uswitch-kernel-") as scratch:
        deb = _download(Path(scratch), package, progress)
        progress(f"unpacking {package.name}")
        _unpack(deb, work)
    image = next(iter((work / "boot").glob("vmlinuz-*")), None)
    if image is None:
        raise TestbedError(f"{package.name} holds no /boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    (work / "vmlinux").write_bytes(decompress(image.read_bytes()))
    shutil.rmtree(work / "boot")
    _depmod(work, release)
    _describe(work, package, release)


def _describe(work: Path, package: Package, release: str) -> None:
    about = {"package": package.name, "version": package.version, "release": release}
    (work / "about.json").write_text(json.dumps(about))


def _download(directory: Path, package: Package, progress: Progress) -> Path:
    """Run ``apt-get download``, reporting how much has arrived."""
    # As root apt would drop to the user _apt, who cannot write here.
    argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
            f"{package.name}={package.version}"]
    mib = package.size / 2**20
    progress(f"downloading {package.name} ({mib:.0f} MiB)")
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen(argv, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + DOWNLOAD_SECONDS
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise TestbedError(f"no {package.name} after {DOWNLOAD_SECONDS} s")
                time.sleep(0.5)
                have = sum(f.stat().st_size for f in directory.glob("*.deb*")) / 2**20
                progress(f"downloading {package.name}: {have:.0f} of {mib:.0f} MiB")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        debs = list(directory.glob("*.deb"))
        if process.returncode or not debs:
            log.seek(0)
            last = (log.read().strip().splitlines() or ["no output"])[-1]
            raise TestbedError(f"cannot download {package.name}: {last} (try 'apt-get update')")
    return debs[0]


def _unpack(deb: Path, work: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as reader:
        tar = subprocess.run(
            ["tar", "-x", "-C", work, "--no-same-owner", "--wildcards", *UNPACKED],
            stdin=reader.stdout, stderr=subprocess.PIPE, text=True, check=False,
        )
    # tar fails when one pattern matches nothing, which a built-in module makes legitimate;
    # what is really needed is checked by whoever asks for it.
    if reader.returncode and not (work / "boot").is_dir():
        raise TestbedError(f"cannot unpack {deb.name}: {tar.stderr.strip()}")


def decompress(image: bytes) -> bytes:
    """Find the compressed ELF inside a bzImage."""
    for magic, unpack in ((b"\xfd7zXZ\0", _unxz), (b"\x28\xb5\x2f\xfd", _unzstd),
                          (b"\x1f\x8b\x08", _gunzip)):
        at = image.find(magic)
        while at >= 0:
            elf = unpack(image[at:])
            if elf.startswith(b"\x7fELF"):
                return elf
            at = image.find(magic, at + 1)
    raise TestbedError("this kernel is compressed in a way the test bed does not know")


def _unxz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor().decompress(data)  # tolerates what follows the stream
    except lzma.LZMAError:
        return b""


def _gunzip(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data)
    except zlib.error:
        return b""


def _unzstd(data: bytes) -> bytes:
    try:
        return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False).stdout
    except FileNotFoundError as error:
        raise TestbedError("this kernel needs the package zstd to be unpacked") from error


def _depmod(work: Path, release: str) -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    tool = shutil.which("depmod", path=path)
    if tool is None:
        raise TestbedError("depmod is missing: install the package kmod")
    subprocess.run([tool, "-b", work, release], check=True, capture_output=True, timeout=120)
