# SPDX-License-Identifier: Apache-2.0
"""The guests' image, made on the spot: Debian's kernel, busybox, and the scripts in ``guest/``.

Kernel and initramfs are images of their own in glance, and the disk is empty: Nova then boots the
kernel directly, which is the quickest way for an emulated processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed import accel, initramfs, kernel
from testbed.cache import Cache

HERE = Path(__file__).resolve().parent
DISK_BYTES = 1 << 20
READY = "GUEST-READY"

_TOOLS = {path.name: path for path in initramfs.GUEST.scripts}
CONTENTS = initramfs.Image(
    ("virtio_pci", "virtio_net"),
    (("dash", "dash"), ("ping", "iputils-ping"), ("ip", "iproute2")),
    (*sorted(path for path in (HERE / "guest").iterdir()), _TOOLS["guest-commands"]),
)


def prepare(cache: Cache, say: Callable[[str], None]) -> str:
    """Make what ``upload()`` needs, while there is a network.

    Returns Nova's word for how guests run here: "kvm" only where a guest really boots on it.
    """
    chosen = kernel.fetch(cache, say)
    found = accel.choose(cache, chosen.vmlinux, initramfs.build(cache, chosen, CONTENTS))
    say(f"guests run by {found.name}: {found.reason}")
    return "kvm" if found.name == "kvm" else "qemu"


def upload(sdk: Any, cache: Cache, say: Callable[[str], None], kind: str) -> Any:
    """The image, in glance; ``kind`` is what ``prepare()`` said."""
    chosen = kernel.fetch(cache, say)
    archive = initramfs.build(cache, chosen, CONTENTS)
    started = time.monotonic()
    words = ["console=ttyS0", "quiet", "panic=-1"]
    if kind == "qemu":
        words += accel.tcg("").kernel_words
    kernel_image = _create(sdk, "kernel", "aki", chosen.vmlinux.read_bytes())
    ramdisk = _create(sdk, "ramdisk", "ari", archive.read_bytes())
    image = _create(sdk, "busybox", "raw", bytes(DISK_BYTES), {
        "kernel_id": kernel_image.id,
        "ramdisk_id": ramdisk.id,
        "os_command_line": " ".join(words),
    })  # fmt: skip
    say(f"image of {chosen.package} in glance, {time.monotonic() - started:.1f} s")
    return image


def _create(sdk: Any, name: str, form: str, data: bytes, properties: dict[str, str] | None = None
            ) -> Any:  # fmt: skip
    container = form if form in ("aki", "ari") else "bare"
    image = sdk.image.create_image(
        name=name, disk_format=form, container_format=container, visibility="public", data=data,
        allow_duplicates=True, **(properties or {}),
    )  # fmt: skip
    return sdk.image.get_image(image.id)
