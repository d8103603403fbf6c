# SPDX-License-Identifier: Apache-2.0
"""The os-vif plugin with real os-vif objects, against a scripted uswitchd."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import os_vif
import pytest
from os_vif import objects
from oslo_config import cfg

from tests.unit.scripted_uswitchd import Scripted
from vif_uswitch import patience, plugin, plugin_opts
from vif_uswitch.exceptions import (
    Conflict,
    DaemonUnreachable,
    Forbidden,
    InvalidInput,
    Unavailable,
    USwitchError,
)
from vif_uswitch.plugin import UswitchPlugin

PORT = "8bd4bb6c-6f3f-4b0f-9a3c-4d1b2b5f9a10"
NETWORK = "0d1f5ed7-2d0d-4b5e-8d0e-0a5a3c7b6f21"
INSTANCE = "c2f8a9d4-5c1e-4f0a-b7a6-3e2d1c0b9a87"
PROJECT = "3f6b0d2c1e9a4b7f8c5d0e1f2a3b4c5d"
Asked = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def os_vif_objects() -> None:
    objects.register_all()


@pytest.fixture
def directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as name:
        yield name


@pytest.fixture
def loaded(directory: str) -> Iterator[UswitchPlugin]:
    """The plugin, its options set for a uswitchd in ``directory``."""
    made = UswitchPlugin.load("contrail_vrouter")
    cfg.CONF([], project="test", default_config_files=[])
    cfg.CONF.set_override("control_socket", f"{directory}/s", plugin_opts.GROUP)
    cfg.CONF.set_override("timeout", 1, plugin_opts.GROUP)
    yield made
    for name in ("control_socket", "timeout", "vhost_socket_dir"):
        cfg.CONF.clear_override(name, plugin_opts.GROUP)


def a_vif(**changes: Any) -> objects.vif.VIFVHostUser:
    """As Nova makes it of a port that the mechanism driver has bound; None leaves a field unset."""
    network = objects.network.Network(id=NETWORK, label="blue", mtu=1450)
    fields = {"id": PORT, "address": "fa:16:3e:01:02:03", "network": network, "vif_name": "tap8bd4",
              "plugin": "contrail_vrouter", "active": False, "has_traffic_filtering": False,
              "path": f"/run/uswitch/vhost/{PORT}.sock", "mode": "server", **changes}  # fmt: skip
    return objects.vif.VIFVHostUser(**{k: v for k, v in fields.items() if v is not None})


def an_instance(**changes: Any) -> objects.instance_info.InstanceInfo:
    fields = {"uuid": INSTANCE, "name": "instance-0000002a", "project_id": PROJECT, **changes}
    return objects.instance_info.InstanceInfo(**{k: v for k, v in fields.items() if v is not None})


def obedient(created: bool = True, **port: Any) -> Any:
    """A uswitchd that does what it is asked for."""

    def answer(method: str, params: dict[str, Any]) -> Any:
        if method == "port.delete":
            return {"existed": created}
        shown = {"link": "waiting", "reason": "", "path": params["port"]["path"], **port}
        return {"port": shown, "created": created, "changed": created}

    return answer


def refusing(error: USwitchError) -> Any:
    def answer(method: str, params: dict[str, Any]) -> Any:
        raise error

    return answer


def plugged(loaded: UswitchPlugin, vif: Any, instance: Any = None) -> dict[str, Any]:
    """The port that uswitchd was asked for."""
    with Scripted(loaded.config.control_socket, obedient()) as daemon:
        loaded.plug(vif, instance or an_instance())
    [(method, params)] = daemon.asked
    assert method == "port.ensure" and params["create_segments"] is False
    port: dict[str, Any] = params["port"]
    return port


# ---- loading ----


def test_one_group_for_all_names(loaded: UswitchPlugin) -> None:
    others = [UswitchPlugin.load(name) for name in ("uswitch", "vhostuser_fp")]
    assert [other.config.timeout for other in others] == [1, 1]
    assert not [group for group in cfg.CONF if group in ("os_vif_vhostuser_fp",
                                                         "os_vif_contrail_vrouter")]  # fmt: skip


def test_what_it_can_plug_is_what_os_vif_has(loaded: UswitchPlugin) -> None:
    described = loaded.describe()
    assert described.plugin_name == "uswitch"
    [vif] = described.vif_info
    assert vif.get_common_version() == objects.vif.VIFVHostUser.VERSION
    [profile] = vif.supported_port_profiles
    assert profile.get_common_version() == objects.vif.VIFPortProfileFPBridge.VERSION
    assert described.obj_to_primitive()


def test_options_have_help_and_no_side_effect() -> None:
    [(group, options)] = plugin_opts.list_opts()
    assert group == "os_vif_uswitch"
    assert {option.name for option in options} == {"control_socket", "timeout", "vhost_socket_dir"}
    assert all(option.help and option.help.endswith(".") for option in options)


# ---- what is asked for ----


def test_a_port_of_nova(loaded: UswitchPlugin) -> None:
    assert plugged(loaded, a_vif()) == {
        "name": PORT,
        "type": "vhost-user",
        "path": f"/run/uswitch/vhost/{PORT}.sock",
        "mode": "server",
        "mtu": 1450,
        "external_ids": {
            "owner": "nova",
            "instance": INSTANCE,
            "instance-name": "instance-0000002a",
            "project": PROJECT,
            "network": NETWORK,
            "vif-name": "tap8bd4",
            "mac": "fa:16:3e:01:02:03",
        },
    }


def test_fields_that_are_not_set(loaded: UswitchPlugin) -> None:
    """Reading an unset field of an os-vif object raises; Nova leaves several unset."""
    vif = a_vif(network=None, address=None, vif_name=None, active=None)
    port = plugged(loaded, vif, an_instance(name=None, project_id=None))
    assert "mtu" not in port
    assert port["external_ids"] == {"owner": "nova", "instance": INSTANCE}
    assert plugged(loaded, a_vif(), objects.instance_info.InstanceInfo())["name"] == PORT


def test_a_network_without_mtu(loaded: UswitchPlugin) -> None:
    unset, null = objects.network.Network(id=NETWORK), objects.network.Network(id=NETWORK, mtu=None)
    for network in (unset, null):
        port = plugged(loaded, a_vif(network=network))
        assert "mtu" not in port and port["external_ids"]["network"] == NETWORK


def test_segment_addresses_and_guard_are_left_alone(loaded: UswitchPlugin) -> None:
    port = plugged(loaded, a_vif())
    assert not {"segment", "trunk", "macs", "guard", "admin_up", "max_kbps"} & set(port)


def test_a_name_that_no_terminal_should_see(loaded: UswitchPlugin) -> None:
    ids = plugged(loaded, a_vif(), an_instance(name="\x1b[2Jevil\n" + "x" * 200))["external_ids"]
    assert ids["instance-name"].startswith("?[2Jevil?xxx") and len(ids["instance-name"]) == 128


def test_fast_path_profile_is_no_hindrance(loaded: UswitchPlugin) -> None:
    profile = objects.vif.VIFPortProfileFPBridge(bridge_name="brq0d1f5ed7-2d")
    port = plugged(loaded, a_vif(plugin="vhostuser_fp", port_profile=profile, mode="client"))
    assert port["mode"] == "client" and "brq" not in str(port)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"path": None}, "vhostuser_socket .*no absolute path"),
        ({"path": ""}, "vhostuser_socket ''.*no absolute path"),
        ({"path": "vhost/x.sock"}, "vhostuser_socket vhost/x.sock: is no absolute path"),
        ({"path": "/run/\0x"}, r"vhostuser_socket '/run/\\x00x': .*can be printed"),
        ({"path": "/run/\ud800"}, "can be printed"),
        ({"path": "/run/" + "x" * 103}, "has 108 bytes; the kernel allows 107"),
        ({"path": "/run/" + "ü" * 60}, "has 125 bytes"),
        ({"mode": None}, "vhostuser_mode.*neither server nor client"),
        ({"id": None}, "has no id"),
    ],
)
def test_what_can_never_be_a_port(
    loaded: UswitchPlugin, changes: dict[str, Any], text: str
) -> None:
    """Refused at once, uswitchd there or not: this one is not."""
    with pytest.raises(InvalidInput, match=text) as caught:
        loaded.plug(a_vif(**changes), an_instance())
    assert "\n" not in str(caught.value) and INSTANCE in str(caught.value)


def test_the_longest_path_is_long_enough(loaded: UswitchPlugin) -> None:
    assert plugged(loaded, a_vif(path="/run/" + "x" * 102))["path"].endswith("x")


def test_another_kind_of_interface(loaded: UswitchPlugin) -> None:
    vif = objects.vif.VIFGeneric(id=PORT, vif_name="tap0")
    with pytest.raises(InvalidInput, match="is a VIFGeneric, not a VIFVHostUser"):
        loaded.plug(vif, an_instance())


def test_a_refusal_says_which_port_why_and_what_to_do(loaded: UswitchPlugin) -> None:
    error = Conflict("port", PORT, "exists with mode client, not server", "Delete it first.")
    with Scripted(loaded.config.control_socket, refusing(error)):
        with pytest.raises(Conflict) as caught:
            loaded.plug(a_vif(), an_instance())
    assert str(caught.value) == (
        f"cannot plug port {PORT} of instance instance-0000002a ({INSTANCE}): port {PORT}:"
        " exists with mode client, not server. Delete it first."
    )


def test_no_uswitchd(loaded: UswitchPlugin) -> None:
    with pytest.raises(DaemonUnreachable, match=rf"port {PORT} of instance.*tried for 1 s.*Start"):
        loaded.plug(a_vif(), an_instance())


# ---- whose socket it is ----


def test_a_foreign_socket_by_the_options(loaded: UswitchPlugin) -> None:
    cfg.CONF.set_override("vhost_socket_dir", "/run/uswitch/vhost", plugin_opts.GROUP)
    for path in ("/var/run/vrouter/uvh_vif_tap0", "/run/uswitch/vhost2/x.sock", "/x.sock"):
        with pytest.raises(InvalidInput, match="belongs to another plugin") as caught:
            loaded.plug(a_vif(path=path), an_instance())
        text = f"path {path}: is not below vhost_socket_dir (/run/uswitch/vhost)"
        assert text in str(caught.value)
        loaded.unplug(a_vif(path=path), an_instance())  # nobody is asked: nobody is there
    assert plugged(loaded, a_vif())["name"] == PORT


def test_a_directory_by_another_name(loaded: UswitchPlugin, directory: str) -> None:
    os.mkdir(f"{directory}/real")
    os.symlink("real", f"{directory}/link")
    cfg.CONF.set_override("vhost_socket_dir", f"{directory}/link", plugin_opts.GROUP)
    assert plugged(loaded, a_vif(path=f"{directory}/real/x.sock"))["name"] == PORT
    assert plugged(loaded, a_vif(path=f"{directory}/link/x.sock"))["name"] == PORT


def test_a_foreign_socket_by_uswitchd(loaded: UswitchPlugin) -> None:
    why = "is not below vhost_socket_dir (/run/uswitch/vhost)"
    error = InvalidInput("path", "/var/run/v/x", why)
    with Scripted(loaded.config.control_socket, refusing(error)):
        with pytest.raises(InvalidInput, match=r"vhost_socket_dir \(/run/uswitch/vhost\).*another"):
            loaded.plug(a_vif(path="/var/run/v/x"), an_instance())


# ---- a directory that is closed to uswitchd ----


@pytest.mark.parametrize("created", [True, False])
def test_uswitchd_cannot_reach_the_socket(
    loaded: UswitchPlugin, directory: str, created: bool
) -> None:
    """QEMU would wait for ever: the port is not left to it."""
    why = f"cannot connect to {directory}/x.sock: Permission denied"
    answer = obedient(created, link="waiting", reason=why)
    os.chmod(directory, 0o710)
    with Scripted(loaded.config.control_socket, answer) as daemon:
        with pytest.raises(Forbidden) as caught:
            loaded.plug(a_vif(path=f"{directory}/x.sock"), an_instance())
    asked = [method for method, _ in daemon.asked]
    assert asked == (["port.ensure", "port.delete"] if created else ["port.ensure"])
    text = str(caught.value)
    assert f"{directory} (root:root, mode 0710)" in text or os.geteuid() != 0
    assert "uswitchd, user " in text and "2775" in text


def test_uswitchd_cannot_listen(loaded: UswitchPlugin) -> None:
    """The longest paths come shortened in an error's value."""
    for path in ("/run/uswitch/vhost/x.sock", f"/run/{'x' * 94}/y.sock"):
        what = "cannot listen on the vhost-user socket"
        error = Unavailable(what, path, "Permission denied", "check the directory")
        with Scripted(loaded.config.control_socket, refusing(error)) as daemon:
            with pytest.raises(Forbidden, match="was denied access in /run"):
                loaded.plug(a_vif(mode="client", path=path), an_instance())
        assert len(daemon.asked) == 1, "it does not pass by itself"


def test_uswitchd_cannot_write_something_else(loaded: UswitchPlugin) -> None:
    """A closed state directory is not blamed on the directory of the sockets; it may pass."""
    error = Unavailable("state file", "/var/lib/uswitch/state.json",
                        "cannot be written: Permission denied", "Open it.")  # fmt: skip
    with Scripted(loaded.config.control_socket, refusing(error)) as daemon:
        with pytest.raises(Unavailable, match=r"/var/lib/uswitch/state.json: .*Open it") as caught:
            loaded.plug(a_vif(), an_instance())
    assert "vhost" not in str(caught.value) and len(daemon.asked) > 1


def test_a_port_that_waits_for_something_else(loaded: UswitchPlugin) -> None:
    answer = obedient(link="waiting", reason="/dev/other: Permission denied")
    with Scripted(loaded.config.control_socket, answer) as daemon:
        loaded.plug(a_vif(), an_instance())
    assert len(daemon.asked) == 1


def test_a_running_guest_is_no_failure(loaded: UswitchPlugin) -> None:
    """What ended an earlier session is told as well, and is over."""
    answer = obedient(False, link="up", reason="x: Permission denied")
    with Scripted(loaded.config.control_socket, answer):
        loaded.plug(a_vif(), an_instance())


# ---- unplug ----


def deleted(loaded: UswitchPlugin, vif: Any, existed: bool = True) -> Asked:
    with Scripted(loaded.config.control_socket, obedient(existed)) as daemon:
        loaded.unplug(vif, an_instance())
    return daemon.asked


@pytest.mark.parametrize("existed", [True, False])
def test_unplug(loaded: UswitchPlugin, existed: bool) -> None:
    assert deleted(loaded, a_vif(), existed) == [("port.delete", {"name": PORT})]


def test_unplug_of_what_could_not_be_plugged(loaded: UswitchPlugin) -> None:
    cfg.CONF.set_override("vhost_socket_dir", "/run/uswitch/vhost", plugin_opts.GROUP)
    for changes in ({"path": None}, {"mode": None}, {"path": "x"}, {"network": None},
                    {"path": "/run/\0x"}, {"path": "/run/\ud800"}):  # fmt: skip
        assert deleted(loaded, a_vif(**changes)) == [("port.delete", {"name": PORT})]
    assert deleted(loaded, objects.vif.VIFGeneric(id=PORT)) == [("port.delete", {"name": PORT})]
    assert deleted(loaded, a_vif(id=None)) == []


def test_unplug_without_uswitchd_succeeds_and_tells(
    loaded: UswitchPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    loaded.unplug(a_vif(), an_instance())
    last = caplog.records[-1]
    assert last.levelno == logging.WARNING
    assert "may be left over" in last.message
    assert last.message.endswith(f"uswitchctl port delete {PORT}")


def test_unplug_does_not_wait_as_long_as_plug(loaded: UswitchPlugin) -> None:
    cfg.CONF.set_override("timeout", 600, plugin_opts.GROUP)
    budgets: list[float] = []

    def insist(caller: patience.Caller, request: Any, budget_s: float, subject: str) -> Any:
        budgets.append(budget_s)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "insist", insist)
        loaded.unplug(a_vif(), an_instance())
    assert budgets == [plugin.UNPLUG_S]


# ---- through os-vif itself ----


def test_os_vif_dispatches_to_it_and_tells_the_reason(
    loaded: UswitchPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text reaches whoever called os_vif.plug(), which is Nova."""

    class Extension:
        obj = loaded

    monkeypatch.setattr(os_vif, "_EXT_MANAGER", {"contrail_vrouter": Extension})
    with pytest.raises(os_vif.exception.PlugException, match="Start uswitchd"):
        os_vif.plug(a_vif(), an_instance())
    os_vif.unplug(a_vif(), an_instance())
    with Scripted(loaded.config.control_socket, obedient()) as daemon:
        os_vif.plug(a_vif(), an_instance())
        os_vif.unplug(a_vif(), an_instance())
    assert [method for method, _ in daemon.asked] == ["port.ensure", "port.delete"]
