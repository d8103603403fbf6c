# SPDX-License-Identifier: Apache-2.0
"""The guests' root file system: busybox, a few modules, a few of the host's own programs.

The archive format is cpio "newc" (kernel Documentation/driver-api/early-userspace/
buffer-format.rst), simple enough to be written here, so that no root and no cpio are needed.
``Archive`` is pure; ``build()`` looks at the host.  About 13 MB, made in a second, cached by the
digest of all it contains.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from testbed import TestbedError
from testbed.cache import Cache, digest, file_digest
from testbed.kernel import Kernel

KIND = "initramfs"
HERE = Path(__file__).resolve().parent
DIRECTORIES = ("bin", "sbin", "dev", "proc", "sys", "etc", "root", "tmp", "run", "usr/bin",
               "usr/sbin", "lib/modules")
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Image:
    """What is in an archive beside busybox: ``init`` becomes /init, other scripts programs."""

    modules: tuple[str, ...]
    programs: tuple[tuple[str, str], ...]  # and the package to install for each
    scripts: tuple[Path, ...]


def _scripts(*directories: str) -> tuple[Path, ...]:
    return tuple(sorted(path for name in directories for path in (HERE / name).iterdir()
                        if path.is_file()))


# dash, because busybox' shell prefers its own applets to programs of the same name.
GUEST = Image(
    ("virtio_pci", "virtio_net", "8021q"),
    (("dash", "dash"), ("ping", "iputils-ping"), ("iperf3", "iperf3"), ("ethtool", "ethtool"),
     ("ip", "iproute2")),
    _scripts("guest"),
)
# Only what leads to the real host's files; the rest is there (testbed/vfio_guest.py).
NESTED = Image(
    ("virtio_pci", "9pnet_virtio", "9p", "overlay"), (),
    (*_scripts("nested"), HERE / "guest" / "guest-commands"),
)


@dataclass(slots=True)
class Archive:
    """A growing newc archive; parents are made on demand, the first of two equal names wins."""

    records: list[bytes] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def _record(self, name: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)
                ) -> None:
        encoded = name.encode() + b"\0"
        inode = len(self.records) + 1
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % value for value in fields)
        self.records.append(_pad4(header + encoded) + _pad4(data))

    def directory(self, path: str) -> None:
        """Add a directory and whatever leads to it."""
        path = path.strip("/")
        if path and path not in self.names:
            self.directory(os.path.dirname(path))
            self.names.add(path)
            self._record(path, stat.S_IFDIR | 0o755)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        path = path.strip("/")
        if path not in self.names:
            self.directory(os.path.dirname(path))
            self.names.add(path)
            self._record(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        path = path.strip("/")
        if path not in self.names:
            self.directory(os.path.dirname(path))
            self.names.add(path)
            self._record(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int) -> None:
        """Add a device node; the kernel needs /dev/console before init mounts anything."""
        self.directory(os.path.dirname(path))
        self.names.add(path)
        self._record(path, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def finish(self) -> bytes:
        """The archive with its trailer, padded to the customary 512 bytes."""
        self._record("TRAILER!!!", 0)
        data = b"".join(self.records)
        return data + b"\0" * (-len(data) % 512)


def _pad4(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def parse_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """``modules.dep`` as module path -> the paths it needs."""
    dependencies: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        path, colon, needs = line.partition(":")
        if colon:
            dependencies[path.strip()] = tuple(needs.split())
    return dependencies


def module_name(path: str) -> str:
    """The name ``lsmod`` shows for a module file."""
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def closure(wanted: tuple[str, ...], dependencies: dict[str, tuple[str, ...]], builtin: set[str]
            ) -> list[str]:
    """Paths of the wanted modules and all they need, in loading order."""
    by_name = {module_name(path): path for path in dependencies}
    order: list[str] = []

    def need(path: str) -> None:
        for other in dependencies.get(path, ()):
            if other not in order:
                need(other)
        if path not in order:
            order.append(path)

    for name in wanted:
        plain = name.replace("-", "_")
        if plain in by_name:
            need(by_name[plain])
        elif plain not in builtin:
            raise TestbedError(f"this kernel has no module {name}")
    return order


def libraries(program: Path) -> list[Path]:
    """The shared objects a program loads, its ELF interpreter included."""
    shown = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", shown.stdout)]


def find_program(name: str, package: str) -> Path:
    """The host's program, or a message that names the package to install."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise TestbedError(f"{name} is missing: install the package {package}")
    return Path(found)


def _find_busybox() -> Path:
    path = find_program("busybox", "busybox-static")
    if libraries(path):
        raise TestbedError("busybox is dynamic: install the package busybox-static")
    return path


def build(cache: Cache, kernel: Kernel, image: Image = GUEST) -> Path:
    """The initramfs for this kernel and this host's programs."""
    programs = [find_program(name, package) for name, package in image.programs]
    sources = [_find_busybox(), *programs, *image.scripts]
    key = digest(kernel.package, kernel.version, *image.modules, file_digest(Path(__file__)),
                 *(file_digest(path.resolve()) for path in sources))

    def make(work: Path) -> None:
        (work / "guest.cpio").write_bytes(compose(kernel, image, sources[0], programs))

    return cache.get(KIND, key, make) / "guest.cpio"


def compose(kernel: Kernel, image: Image, busybox: Path, programs: list[Path]) -> bytes:
    """Write the archive from its parts."""
    archive = Archive()
    for directory in DIRECTORIES:
        archive.directory(directory)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    for program in programs:
        archive.file(f"usr/bin/{program.name}", program.read_bytes(), 0o755)
        for library in libraries(program):
            archive.file(str(library), library.read_bytes(), 0o755)
    _add_modules(archive, kernel, image.modules)
    archive.file("etc/passwd", b"root:x:0:0::/root:/usr/bin/dash\n")
    archive.file("etc/group", b"root:x:0:\n")
    for script in image.scripts:
        target = "init" if script.name == "init" else f"usr/bin/{script.name}"
        archive.file(target, script.read_bytes(), 0o755)
    return archive.finish()


def _add_modules(archive: Archive, kernel: Kernel, wanted: tuple[str, ...]) -> None:
    dependencies = parse_dependencies((kernel.modules / "modules.dep").read_text())
    listed = (kernel.modules / "modules.builtin").read_text()
    builtin = {module_name(line) for line in listed.splitlines()}
    top = f"lib/modules/{kernel.release}"
    lines = []
    for path in closure(wanted, dependencies, builtin):
        data = (kernel.modules / path).read_bytes()
        if path.endswith(".xz"):  # busybox' modprobe reads plain files only
            data = lzma.decompress(data)
        archive.file(f"{top}/{path.removesuffix('.xz')}", data)
        needs = " ".join(dependencies[path])
        lines.append(f"{path}: {needs}".replace(".ko.xz", ".ko"))
    archive.file(f"{top}/modules.dep", ("\n".join(lines) + "\n").encode())
