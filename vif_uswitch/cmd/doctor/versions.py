# SPDX-License-Identifier: Apache-2.0
"""VER-01..05: versions, beside those that this release was tested with.

``TESTED`` is the one table; ``doc/source/doctor.rst`` has the same, which a
test compares.  Below the first version: FAIL, known not to work.  Outside of
what was tested: WARN, it may work as well.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

from vif_uswitch.cmd.doctor import services
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, fail, passed, skip, warn
from vif_uswitch.exceptions import shown
from vif_uswitch.version import version

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """``first`` and ``last`` that were tested; below ``least`` it does not work, for ``why``."""

    first: Version
    last: Version
    least: Version = ()
    why: str = ""


TESTED = {
    "Linux": Range((6, 1), (6, 18), (5, 9), "close_range(2), without which no dataplane starts"),
    "QEMU": Range((10, 0), (10, 0)),
    "libvirt": Range((11, 3), (11, 3)),
    "os-vif": Range((5, 2), (5, 3)),
    "nova": Range((33,), (34,)),
    "neutron": Range((28,), (29,)),
}


def parse(word: str) -> Version:
    """The numbers at the start: "6.18.44-fc" is (6, 18, 44); () if there is none."""
    found = re.match(r"\d+(?:\.\d+)*", word)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def dotted(numbers: Version) -> str:
    return ".".join(str(number) for number in numbers)


def tested(one: Range) -> str:
    first, last = dotted(one.first), dotted(one.last)
    return first if first == last else f"{first} to {last}"


def judge(name: str, word: str) -> Finding:
    """``word``: the version as the thing itself writes it."""
    numbers, known = parse(word), TESTED[name]
    if not numbers:
        return warn(f"{name} says {shown(word)}, which is no version",
                    f"Tested: {tested(known)}.")
    if numbers < known.least:
        return fail(f"{name} {shown(word)} lacks {known.why}",
                    f"Use {dotted(known.least)} or later; tested: {tested(known)}.")
    low, high = numbers[: len(known.first)], numbers[: len(known.last)]
    if low < known.first or high > known.last:
        return warn(f"{name} {shown(word)} was not tested with this release",
                    f"Tested: {tested(known)}. If something looks odd, suspect this too.")
    return passed(f"{name} {shown(word)}")


def ours(scene: Scene) -> Finding:
    """VER-01"""
    running = scene.switch.daemon().get("version")
    if running is None:
        return skip("uswitchd does not say", "See CTL-01.")
    if running != version():
        return warn(f"uswitchctl is {version()}, uswitchd {shown(str(running))}",
                    "After an upgrade: systemctl restart uswitchd (no packet is lost).")
    return passed(f"uswitchctl and uswitchd {version()}")


def kernel(scene: Scene) -> Finding:
    """VER-02"""
    word = scene.host.line("/proc/sys/kernel/osrelease") or platform.release()
    return judge("Linux", word)


def _first(scene: Scene, *names: str) -> str:
    """Where the first of these programs is that is there, or ""."""
    return next((path for name in names if (path := scene.host.program(name))), "")


def qemu(scene: Scene) -> Finding:
    """VER-03"""
    program = _first(scene, f"qemu-system-{platform.machine()}", "qemu-kvm")
    if not program:
        return skip("no QEMU on this host, or not to be seen from here",
                    "If libvirt runs in a container, look there.")
    answer = scene.host.run((program, "--version"))
    found = re.search(r"version (\S+)", answer)
    if found is None:
        return warn(f"{program} --version answers {shown(answer)}", f"Run it, and see what it says."
                    f" Tested: {tested(TESTED['QEMU'])}.")
    return judge("QEMU", found.group(1))


def libvirt(scene: Scene) -> Finding:
    """VER-04"""
    program = _first(scene, "virtqemud", "libvirtd")
    if not program:
        return skip("no libvirt on this host, or not to be seen from here",
                    "If it runs in a container, look there.")
    answer = scene.host.run((program, "--version"))
    found = re.search(r"\s(\d[\w.]*)\s*$", answer)
    if found is None:
        return warn(f"{program} --version answers {shown(answer)}", f"Run it, and see what it says."
                    f" Tested: {tested(TESTED['libvirt'])}.")
    return judge("libvirt", found.group(1))


def openstack(scene: Scene) -> Finding:
    """VER-05: the worst of os-vif, Nova and Neutron."""
    findings = []
    for program, names in (("nova-compute", ("os-vif", "nova")), (services.AGENT, ("neutron",))):
        found = services.service(scene.host, program)
        for name in names if found else ():
            assert found is not None
            if word := services.version_of(found, name):
                findings.append(judge(name, word))
    if not findings:
        return skip("neither nova-compute nor the agent is to be seen from here",
                    "In a container: run 'uswitchctl doctor --only VER-05' inside it.")
    bad = [one for one in findings if one.todo]
    if not bad:
        return passed(", ".join(one.text for one in findings))
    worst = next((one for one in bad if one.status.value == "FAIL"), bad[0])
    return Finding(worst.status, "; ".join(one.text for one in bad), worst.todo)


CHECKS = (
    Check("VER-01", "our own programs are of one version", ours),
    Check("VER-02", "the kernel's version", kernel),
    Check("VER-03", "QEMU's version", qemu),
    Check("VER-04", "libvirt's version", libvirt),
    Check("VER-05", "versions of os-vif, Nova, Neutron", openstack),
)
