# SPDX-License-Identifier: Apache-2.0
"""AF_XDP against the kernel's own bridge: the same veth pairs, the same sender, by turns.

Frames enter at ``far0`` as fast as the kernel takes them and are counted by the kernel where they
arrive, at ``far1``.  The sender's processor does the kernel's part of the way (for the bridge, all
of it), the switch's worker has the other one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from testbed import TestbedError
from tests.functional.xdp_bed import Bed, Port, ip, missing
from vif_uswitch.dataplane.native import NativeSwitch

NEAR = ("near0", "near1")
FAR = ("far0", "far1")
SOURCE, DESTINATION = bytes.fromhex("5254000000a0"), bytes.fromhex("5254000000b0")  # as in veths.c


def _arrived(bed: Bed) -> int:
    path = f"/sys/class/net/{FAR[1]}/statistics/rx_packets"
    return int(bed.far.run(["cat", path]).output)


def _rate(bed: Bed, program: Path, cpu: int, seconds: float, size: int) -> float:
    """Frames a second that arrive; the first moments are thrown away."""
    for length in (min(seconds, 0.3), seconds):
        before, started = _arrived(bed), time.monotonic()
        done = bed.far.run([str(program), FAR[0], str(cpu), str(length * 1000), str(size)])
        if done.rc:
            raise TestbedError(f"{program.name}: {done.output.strip()}")
        took = time.monotonic() - started
        arrived = _arrived(bed) - before
    # The program's start is part of the time, for both alike.
    return arrived / took


@contextlib.contextmanager
def _bed(name: str) -> Iterator[Bed]:
    reason = missing()
    if reason:
        raise TestbedError(reason)
    bed = Bed(f"{name}{os.getpid()}")
    try:
        yield bed
    finally:
        bed.close()


def bridge(program: Path, cpus: tuple[int, int], seconds: float, size: int) -> float:
    """Both near ends in a bridge that knows where the destination is."""
    with _bed("usvb") as bed:
        for near, far in zip(NEAR, FAR, strict=True):
            bed.veth(near, far)
        try:
            ip("-n", bed.near.name, "link", "add", "join", "type", "bridge")
            for near in NEAR:
                ip("-n", bed.near.name, "link", "set", near, "master", "join")
            ip("-n", bed.near.name, "link", "set", "join", "up")
        except subprocess.CalledProcessError as error:
            raise TestbedError(f"a bridge: {error.stderr.strip()}") from error
        _announce(bed)
        return _rate(bed, program, cpus[1], seconds, size)


def af_xdp(program: Path, cpus: tuple[int, int], seconds: float, size: int) -> float:
    """Both near ends are ports of a switch, whose worker runs on a processor of its own."""
    with _bed("usvx") as bed, _switch_on(cpus[0]) as switch:
        for number, (near, far) in enumerate(zip(NEAR, FAR, strict=True)):
            Port(switch, bed, number, near, bed.attached(near, far), ring_size=0)
        _announce(bed)
        return _rate(bed, program, cpus[1], seconds, size)


def _announce(bed: Bed) -> None:
    """Both addresses become known."""
    for far, to, of in ((FAR[1], SOURCE, DESTINATION), (FAR[0], DESTINATION, SOURCE)):
        bed.raw(far).send((to + of + b"\x88\xb5").ljust(60, b"\0"))
        time.sleep(0.1)


def _switch_on(cpu: int) -> NativeSwitch:
    """One whose worker stays there: threads inherit the processors of who makes them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        return NativeSwitch(workers=1, poll_us=1000)
    finally:
        os.sched_setaffinity(0, before)
