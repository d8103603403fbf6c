# SPDX-License-Identifier: Apache-2.0
"""PLUG-01..02, AGENT-01..02: what nova-compute would import, and who wires ports."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import VENV, FakeRoot
from vif_uswitch.version import version

SITE = f"{VENV}/lib/python3.11/site-packages"
OURS = f"{SITE}/vif_uswitch-{version()}.dist-info"


def test_the_plugin_is_where_nova_compute_looks(host: FakeRoot, expect: Expect) -> None:
    assert f"({VENV}/bin/python3) has the plugin" in expect("PLUG-01", "PASS").text
    expect("PLUG-02", "PASS")
    host.at("/proc/200/cmdline").unlink()  # it does not run: the program's first line says as much
    host.program("/usr/bin/nova-compute", text=f"#!{VENV}/bin/python3 -s\n")
    expect("PLUG-01", "PASS")


@pytest.mark.parametrize("head", [
    "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
    "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n",
    "#!/usr/bin/env -S python3 -s\n",
])
def test_every_kind_of_first_line(host: FakeRoot, expect: Expect, head: str) -> None:
    host.put(f"{VENV}/bin/nova-compute", head.format(python=f"{VENV}/bin/python3"), 0o755)
    host.program(f"{VENV}/bin/python3")
    assert VENV in expect("PLUG-01", "PASS").text


def test_a_distributions_python(host: FakeRoot, expect: Expect) -> None:
    """Debian's packages, and ours by pip below /usr/local."""
    host.process(200, "/usr/bin/python3", "/usr/bin/nova-compute")
    host.put("/usr/bin/nova-compute", "#!/usr/bin/python3\n", 0o755)
    host.mkdir("/usr/lib/python3/dist-packages")
    expect("PLUG-01", "FAIL")
    where = f"/usr/local/lib/python3.11/dist-packages/vif_uswitch-{version()}.dist-info"
    host.at(where).parent.mkdir(parents=True)
    host.at(OURS).rename(host.at(where))
    expect("PLUG-01", "PASS")


def test_a_checkout_in_place(host: FakeRoot, expect: Expect) -> None:
    """What "setup.py develop" leaves: a link to the directory that has the metadata."""
    checkout = host.at("/opt/stack/vif-uswitch")
    checkout.mkdir(parents=True)
    host.at(OURS).rename(checkout / "vif_uswitch.egg-info")
    (checkout / "vif_uswitch.egg-info/METADATA").rename(checkout / "vif_uswitch.egg-info/PKG-INFO")
    host.put(f"{SITE}/vif-uswitch.egg-link", f"{checkout}\n.\n")
    expect("PLUG-01", "PASS")


def test_no_plugin(host: FakeRoot, expect: Expect) -> None:
    host.at(f"{OURS}/METADATA").unlink()
    found = expect("PLUG-01", "FAIL")
    assert "no guest gets a port" in found.text and f"{VENV}/bin/python3 -m pip" in found.todo
    assert "install --no-deps vif_uswitch-*.whl (built by: pip wheel --no-deps .)" in found.todo


def test_pip_is_told_twice_where_the_distribution_manages(host: FakeRoot, expect: Expect) -> None:
    host.at(f"{OURS}/METADATA").unlink()
    host.put("/usr/lib/python3.11/EXTERNALLY-MANAGED", "[externally-managed]\n")
    assert "--break" not in expect("PLUG-01", "FAIL").todo  # an environment of its own
    host.process(200, "/usr/bin/python3", "/usr/bin/nova-compute")
    host.put("/usr/bin/nova-compute", "#!/usr/bin/python3\n", 0o755)
    assert "--no-deps --break-system-packages vif_" in expect("PLUG-01", "FAIL").todo


def test_a_plugin_in_part(host: FakeRoot, expect: Expect) -> None:
    host.put(f"{OURS}/entry_points.txt", "[os_vif]\nuswitch = a:B\n# vhostuser_fp = c:D\n")
    found = expect("PLUG-01", "FAIL")
    assert "contrail_vrouter, vhostuser_fp" in found.text


def test_a_plugin_of_another_version(host: FakeRoot, expect: Expect) -> None:
    host.put(f"{OURS}/METADATA", "Name: VIF_uswitch\nVersion: 0.0.7\n")
    assert "0.0.7" in expect("PLUG-01", "WARN").text


def test_without_nova(empty: FakeRoot, expect: Expect) -> None:
    for ident in ("PLUG-01", "PLUG-02"):
        assert "inside" in expect(ident, "SKIP").todo
    expect("AGENT-01", "SKIP")


@pytest.mark.parametrize("name", ["contrail_vrouter", "vhostuser_fp", "uswitch"])
def test_somebody_else_has_our_name(host: FakeRoot, expect: Expect, name: str) -> None:
    host.distribution("vif-plug-other", "1.0", f"[os_vif]\n{name} = other:Plugin\n")
    found = expect("PLUG-02", "FAIL")
    assert f"vif-plug-other ({name})" in found.text
    expect("PLUG-01", "PASS")


def test_the_agent(host: FakeRoot, expect: Expect) -> None:
    assert "pid 201" in expect("AGENT-01", "PASS").text
    host.at("/proc/201/cmdline").unlink()
    found = expect("AGENT-01", "FAIL")
    assert "systemctl start neutron-uswitch-agent" in found.todo
    host.at("/proc/200/cmdline").unlink()
    expect("AGENT-01", "SKIP")  # installed, but nobody needs it yet
    host.client.ports = [born(port(1))]
    expect("AGENT-01", "FAIL")


def port(age_s: float, **more: Any) -> dict[str, Any]:
    """``age_s`` is made a time by ``born()``, when the test runs."""
    return {"name": "p1", "segment": None, "trunk": [], "admin_up": True, "age_s": age_s,
            "link": "up", "external_ids": {"owner": "nova"}, **more}  # fmt: skip


def born(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "created_us": int((time.time() - one["age_s"]) * 1e6)}


@pytest.mark.parametrize(("ports", "status"), [
    ([], "SKIP"),
    ([port(3600, external_ids={})], "SKIP"),
    ([port(3600, external_ids={"owner": "libvirt"})], "SKIP"),
    ([port(3600, segment="net")], "PASS"),
    ([port(3600, trunk=[{"vid": 1, "segment": "net"}])], "PASS"),
    ([port(3600, admin_up=False)], "PASS"),
    ([port(1)], "PASS"),
    ([port(3600)], "FAIL"),
    ([port(3600, link="broken")], "FAIL"),
    ([port(3600, external_ids={"owner": "neutron-dhcp"})], "FAIL"),
    ([port(3600, external_ids={"owner": "neutron-l3"}, link="waiting")], "FAIL"),
    ([port(3600, link="negotiating"), port(3600)], "FAIL"),
    ([port(3600, link="waiting")], "WARN"),  # where a live migration goes
    ([port(3600, link="negotiating")], "WARN"),
    ([port(1), port(3600, segment="net"), port(60)], "FAIL"),
])
def test_ports_that_nobody_wires(
    host: FakeRoot, expect: Expect, ports: list[dict[str, Any]], status: str
) -> None:
    host.client.ports = [born(one) for one in ports]
    found = expect("AGENT-02", status)
    assert status not in ("FAIL", "WARN") or "p1" in found.text
    assert status != "WARN" or "live migration" in found.text
