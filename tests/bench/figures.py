# SPDX-License-Identifier: Apache-2.0
"""What is measured besides rates: round trips, large frames, idle processors, control, fairness.

Each experiment yields figures: a name, whose it is, a value and its unit.  What we want to reach is
a limit for the value or for its ratio to somebody else's, taken within the round.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed import TestbedError
from testbed.daemons import ApiError
from testbed.process import cpu_seconds

from . import libvirt, neutron, quiet, veth
from .cases import IO, OVS, Case
from .contenders import CONTENDERS, Contender, Uswitch
from .figure import Figure, Limit, Setting
from .load import Guests, parse_answer

OURS = Uswitch.name
KERNEL = "kernel"
TURNS = 4  # with and without an attacker
FLOOD = "64 B flood"
STOPPED = "stopped receiver"
ATTACKS = {FLOOD: 1, "broadcast": 2, "new addresses": 3, STOPPED: 4}  # as guests.h numbers them


def _prefer(setting: Setting, load: Guests) -> None:
    if setting.priority:
        quiet.prefer(load.threads())


def _trip(setting: Setting, contender: Contender, case: Case, gap: int) -> float:
    with contender, Guests(setting.directory, contender, setting.cpus[1], case) as load:
        contender.ready()
        _prefer(setting, load)
        load.ask("rtt 20000 0")  # addresses become known, and all buffers are touched once
        return load.ask(f"rtt 2000 {gap}")["p50"]


def spinning(kind: type[Contender]) -> Callable[[Setting], Iterator[Figure]]:
    """One packet there and back, the switch awake all the time."""
    def run(setting: Setting) -> Iterator[Figure]:
        case = Case("round trip", 64, in_flight=1)
        contender = (Uswitch(setting.directory, case, setting.cpus[0], poll_us=1000000)
                     if kind is Uswitch else kind(setting.directory, case, setting.cpus[0]))
        limits = (Limit(0.8, OVS), Limit(0.8, IO)) if kind is Uswitch else ()
        yield Figure("round trip, spinning", kind.name, _trip(setting, contender, case, 10), "us",
                     limits)
    return run


def sleeping(setting: Setting) -> Iterator[Figure]:
    """The same with a switch that sleeps at once: one wake-up each way."""
    case = Case("round trip", 64, in_flight=1)
    contender = Uswitch(setting.directory, case, setting.cpus[0], poll_us=0)
    yield Figure("round trip, sleeping", OURS, _trip(setting, contender, case, 200), "us",
                 (Limit(1.1, KERNEL),))


BRIDGE = """
set -e
for tap in bt0 bt1; do ip tuntap add dev $tap mode tap; done
ip link add bbr type bridge
for tap in bt0 bt1; do ip link set $tap master bbr; ip link set $tap up; done
ip link set bbr up
exec "$@"
"""


def kernel(setting: Setting) -> Iterator[Figure]:
    """Two processes, each asleep in read() on a TAP device of one bridge: one wake-up each way."""
    switch, generator = setting.cpus
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "sh", "-c", BRIDGE, "sh",
         str(setting.programs / "taps"), "bt0", str(generator), "bt1", str(switch), "2000"],
        capture_output=True, text=True, check=False, timeout=90)
    if done.returncode:
        raise TestbedError(f"TAP devices and a bridge: {done.stderr.strip() or done.returncode}")
    yield Figure("round trip, sleeping", KERNEL, parse_answer(done.stdout)["p50"], "us")


def af_xdp(size: int) -> Callable[[Setting], Iterator[Figure]]:
    """Two devices of the kernel joined by its bridge, then by this switch through AF_XDP."""
    def run(setting: Setting) -> Iterator[Figure]:
        name = f"veth to veth, {size} B"
        for subject, way, limits in ((KERNEL, veth.bridge, ()),
                                     (OURS, veth.af_xdp, (Limit(1.0, KERNEL, at_least=True),))):
            with veth.preferred(setting.priority):
                rate = way(setting.programs / "veths", setting.cpus, setting.seconds, size)
            yield Figure(name, subject, rate / 1e6, "Mpps", limits)
    return run


def large(setting: Setting) -> Iterator[Figure]:
    """Frames of 64 KiB with a request for segmentation.

    In buffers of 4 KiB as Linux uses them and rings of 256 as QEMU makes them; twelve frames fill
    most of one.
    """
    case = Case("64 KiB", 65536, in_flight=12, ring=256, both_ways=False)
    with (Uswitch(setting.directory, case, setting.cpus[0]) as contender,
          Guests(setting.directory, contender, setting.cpus[1], case, segment=4096,
                 memory=768) as load):
        contender.ready()
        load.ask("start")
        _prefer(setting, load)
        time.sleep(0.3)
        rate = load.measure(setting.seconds).rate
        load.ask("stop")
        copied = load.ask("memcpy 500")["bytes"]
    name = "frames of 64 KiB"
    yield Figure(name, "memcpy", copied * 8 / 1e9, "Gbit/s")
    yield Figure(name, OURS, rate * case.size * 8 / 1e9, "Gbit/s",
                 (Limit(0.9, "memcpy", at_least=True),))


def idle(kind: type[Contender]) -> Callable[[Setting], Iterator[Figure]]:
    """Processor use of all processes with ten ports that have nothing to do."""
    def run(setting: Setting) -> Iterator[Figure]:
        case = Case("idle", 64, pairs=5, in_flight=1)
        with (kind(setting.directory, case, setting.cpus[0]) as contender,
              Guests(setting.directory, contender, setting.cpus[1], case)):
            contender.ready()
            used = _used_while_idle(contender)
        yield Figure("idle, 10 ports", kind.name, used * 100, "% of a core",
                     (Limit(0.2),) if kind is Uswitch else ())
    return run


def waiting(setting: Setting) -> Iterator[Figure]:
    """Processor use with a thousand ports whose guests have not started."""
    ports = 1000
    with Uswitch(setting.directory, Case("waiting", 64, pairs=0), setting.cpus[0]) as contender:
        for number in range(ports):
            contender.switch.add_port(f"w{number}", mode="server", segment="bench")
        used = _used_while_idle(contender)
    yield Figure(f"idle, {ports} waiting ports", OURS, used * 100, "% of a core", (Limit(1),))


def _used_while_idle(contender: Contender) -> float:
    """Processors that its processes use when nothing happens."""
    time.sleep(2)  # whatever has just happened shall be over
    pids = contender.pids()
    before, started = sum(map(cpu_seconds, pids)), time.monotonic()
    time.sleep(10)
    return (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - started)


def control(setting: Setting) -> Iterator[Figure]:
    """Calls of the control API, connection included, while 64 B frames keep the worker busy."""
    case = Case("control", 64)
    took: dict[str, list[float]] = {"port.show": [], "port.add": [], "port.delete": []}

    with (Uswitch(setting.directory, case, setting.cpus[0]) as contender,
          Guests(setting.directory, contender, setting.cpus[1], case) as load):
        load.start()

        def timed(verb: str, **params: object) -> None:
            started = time.monotonic()
            if verb == "port.add":
                contender.switch.add_port("extra", segment="bench")
            else:
                contender.switch.call(verb, **params)
            took[verb].append((time.monotonic() - started) * 1e3)

        for _ in range(100):
            timed("port.show", name="p0")
        for _ in range(20):
            timed("port.add")
            timed("port.delete", name="extra")
    for verb, times in took.items():
        times.sort()
        for what, at in (("p50", len(times) // 2), ("p99", len(times) * 99 // 100)):
            yield Figure(f"{verb} under load, {what}", OURS, times[at], "ms")
        yield Figure(f"{verb} under load, max", OURS, times[-1], "ms")


@contextmanager
def _pair(setting: Setting) -> Iterator[tuple[Uswitch, Guests]]:
    """Ports 0 and 1 busy with each other, attacker 2 and its target 3 quiet.

    The pair's frames are long ones: they cost the switch more than their maker, so that it is the
    switch's processor that pair and attacker compete for, and not the one that plays all of them.
    """
    case = Case("fairness", 1514, pairs=2, in_flight=64)
    with (Uswitch(setting.directory, case, setting.cpus[0]) as contender,
          Guests(setting.directory, contender, setting.cpus[1], case) as load):
        load.start()
        _prefer(setting, load)
        time.sleep(0.3)
        yield contender, load


def _beside(load: Guests, attack: str, seconds: float) -> float:
    """The pair's rate during an attack by its rate without: by turns, since machines have moods."""
    alone, beside = 0.0, 0.0
    for _ in range(TURNS):
        alone += load.measure(seconds / 2).rate
        load.ask(f"attack {ATTACKS[attack]}")
        time.sleep(0.1)
        beside += load.measure(seconds / 2).rate
        load.ask("attack 0")
        time.sleep(0.1)
    return beside / alone


def fairness(setting: Setting) -> Iterator[Figure]:
    """What a pair keeps of its rate beside an attacker; flooding is limited as by default."""
    with _pair(setting) as (_, load):
        alone = load.measure(setting.seconds)
        yield Figure("pair alone", OURS, alone.rate / 1e6, "Mpps")
        yield Figure("pair alone, generator's ceiling", OURS, alone.ceiling / 1e6, "Mpps")
        kept = {attack: _beside(load, attack, setting.seconds) for attack in ATTACKS}
    for attack, share in kept.items():
        if attack != STOPPED:
            yield Figure(f"pair beside {attack}", OURS, share * 100, "% of alone",
                         (Limit(50, at_least=True),))
    # Whoever sends there costs what a flood costs; that nobody receives must cost nothing more.
    yield Figure(f"pair beside {STOPPED}", OURS, kept[STOPPED] / kept[FLOOD] * 100,
                 f"% of beside {FLOOD}", (Limit(95, at_least=True),))


def limited(setting: Setting) -> Iterator[Figure]:
    """The same with the attacker's port limited to 100000 packets a second."""
    with _pair(setting) as (contender, load):
        contender.switch.call("port.set", name="p2", changes={"max_kpps": 100})
        for attack in ATTACKS:
            yield Figure(f"pair beside {attack}, limited", OURS,
                         _beside(load, attack, setting.seconds) * 100, "% of alone",
                         (Limit(90, at_least=True),))


def under_libvirt(way: Callable[[], Iterator[libvirt.Value]]
                  ) -> Callable[[Setting], Iterator[Figure]]:
    """What a user of libvirt waits for (root); neither processors nor priorities are chosen."""
    def run(_setting: Setting) -> Iterator[Figure]:
        for value in _figures(way):
            limits = () if value.at_most is None else (Limit(value.at_most),)
            yield Figure(value.name, value.subject, value.ms, "ms", limits)
    return run


def _figures(way: Callable[[], Iterator[libvirt.Value]]) -> Iterator[libvirt.Value]:
    """What goes wrong with libvirt costs its own figures, not those of the whole run."""
    try:
        yield from way()
    except (AssertionError, subprocess.SubprocessError, ApiError, OSError) as error:
        raise TestbedError(str(error)) from error


EXPERIMENTS: dict[str, Callable[[Setting], Iterator[Figure]]] = {
    **{f"rtt-{name}": spinning(kind) for name, kind in CONTENDERS.items()},
    "sleep-uswitch": sleeping, "sleep-kernel": kernel, "64k": large,
    "xdp-64": af_xdp(64), "xdp-1514": af_xdp(1514),
    **{f"idle-{name}": idle(kind) for name, kind in CONTENDERS.items()},
    "idle-waiting": waiting, "control": control, "fairness": fairness, "fairness-limited": limited,
    "libvirt-hook": under_libvirt(libvirt.hook),
    "libvirt-migration": under_libvirt(libvirt.migration),
    "neutron-list": neutron.listing,
}
ONCE = ("idle", "libvirt", "neutron")  # long enough to need no second round
BY_NAME = ("libvirt", "neutron")  # minutes, and no matter of the packet path: only if asked for
