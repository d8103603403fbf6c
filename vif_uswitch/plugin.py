# SPDX-License-Identifier: Apache-2.0
"""The os-vif plugin: a guest's interface, as Nova describes it, becomes a port of uswitchd.

Nova picks plugins from a closed list of names, so this one answers to
``contrail_vrouter`` and ``vhostuser_fp`` besides its own name ``uswitch`` (see
setup.cfg); all three share the options of group ``[os_vif_uswitch]``.

``plug`` makes the port exist, in no segment: the Neutron agent, or an operator,
wires it.  What the agent has set (segment, addresses, guard, limits) stays as
it is when Nova plugs again, which it does at every start of nova-compute, and
a running guest's connection is not touched.  When ``plug`` returns, uswitchd
watches for the socket, so that a QEMU which listens finds its back-end at once.

No root and no helper: a connection to the control socket is all it needs.
Called by nova-compute, from any of its threads.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

import os_vif.plugin
from os_vif import objects

from vif_uswitch import patience, plugin_opts
from vif_uswitch.client import Client
from vif_uswitch.exceptions import Forbidden, InvalidInput, Unavailable, USwitchError, shown
from vif_uswitch.places import UNIX_PATH_MAX

LOG = logging.getLogger(__name__)

ID_VALUE_MAX = 128  # of a value of external_ids
UNPLUG_S = 5.0  # Nova holds the instance's lock, and what is left over has no guest
DENIED = os.strerror(errno.EACCES)
MODES = ("server", "client")


class UswitchPlugin(os_vif.plugin.PluginBase):  # type: ignore[misc]
    """Plugs VIFVHostUser objects into the userspace switch."""

    CONFIG_OPTS = plugin_opts.OPTS

    @classmethod
    def load(cls, plugin_name: str) -> UswitchPlugin:
        """One group of options for all names: os-vif would make one of each."""
        loaded: UswitchPlugin = super().load(plugin_opts.GROUP.removeprefix("os_vif_"))
        return loaded

    def describe(self) -> objects.host_info.HostPluginInfo:
        """What os-vif may hand us.  ``vhostuser_fp`` brings a port profile, which is not used."""
        info = objects.host_info
        return info.HostPluginInfo(
            plugin_name="uswitch",
            vif_info=[
                info.HostVIFInfo(
                    vif_object_name=objects.vif.VIFVHostUser.__name__,
                    min_version="1.0",
                    max_version="1.1",
                    supported_port_profiles=[
                        info.HostPortProfileInfo(
                            profile_object_name=objects.vif.VIFPortProfileFPBridge.__name__,
                            min_version="1.0",
                            max_version="1.1",
                        )
                    ],
                )
            ],
        )

    def plug(
        self, vif: objects.vif.VIFBase, instance_info: objects.instance_info.InstanceInfo
    ) -> None:
        """Make the port exist as ``vif`` wants it; raises USwitchError, for an operator to read."""
        name, instance = shown(_get(vif, "id")), _instance(instance_info)
        try:
            done = self._ensure(vif, instance_info)
        except USwitchError as error:
            raise _not_plugged(name, instance, error) from error
        what = "added" if done["created"] else "changed" if done["changed"] else "is as wanted"
        LOG.info("port %s of instance %s %s: socket %s", name, instance, what,
                 done["port"]["path"])  # fmt: skip

    def unplug(
        self, vif: objects.vif.VIFBase, instance_info: objects.instance_info.InstanceInfo
    ) -> None:
        """Make the port and its socket be gone.  Never raises: nothing Nova does would help.

        An instance must be deletable while uswitchd is down.  The port that is
        left over then has no guest; the agent takes it out of its segment, and
        plugging it again, or ``uswitchctl port delete``, is all it needs.
        """
        name = _get(vif, "id")
        if not name or self._is_foreign(_get(vif, "path") or ""):
            LOG.debug("not ours, ignored: %s", vif)
            return
        budget = min(UNPLUG_S, self.config.timeout)
        try:
            existed = patience.insist(
                self._caller(), lambda client: client.port_delete(name), budget,
                f"port {shown(name)}",
            )  # fmt: skip
        except USwitchError as error:
            LOG.warning(
                "port %s could not be deleted, and may be left over in uswitchd: %s"
                " To delete it by hand: uswitchctl port delete %s", shown(name),
                patience.sentence(error), shown(name),
            )  # fmt: skip
        else:
            LOG.info("port %s %s", shown(name), "deleted" if existed else "was not there")

    def _ensure(
        self, vif: objects.vif.VIFBase, instance_info: objects.instance_info.InstanceInfo
    ) -> dict[str, Any]:
        port = port_of(vif, instance_info)
        if self._is_foreign(port["path"]):
            ours = self.config.vhost_socket_dir
            raise InvalidInput("path", port["path"], f"is not below vhost_socket_dir ({ours})")
        return patience.insist(
            self._caller(), lambda client: _ensure_reachable(client, port), self.config.timeout,
            f"port {port['name']}",
        )  # fmt: skip

    def _caller(self) -> patience.Caller:
        """All the time there is may go to one call: Nova asks once."""
        return patience.Caller(
            self.config.control_socket, self.config.timeout, "nova-compute", plugin_opts.GROUP
        )

    def _is_foreign(self, path: str) -> bool:
        """Whether we know, without asking, that the socket is none of this switch's."""
        if not self.config.vhost_socket_dir or not _is_path(path):
            return False
        ours = os.path.realpath(self.config.vhost_socket_dir)
        return not is_below(os.path.realpath(os.path.dirname(path)), ours)


def _is_path(text: str) -> bool:
    """Whether it may be handed to the system: absolute, and without a NUL, among others."""
    return text.startswith("/") and text.isprintable()


def is_below(path: str, directory: str) -> bool:
    """Whether ``path`` is that directory or in it; both absolute."""
    return os.path.commonpath([directory, path]) == directory


def _ensure_reachable(client: Client, port: dict[str, Any]) -> dict[str, Any]:
    """``port.ensure``, and an error if uswitchd may not use the socket's directory.

    A QEMU that listens there would wait for uswitchd without an end.
    """
    try:
        done = client.port_ensure(port)
        denied = done["port"]["link"] == "waiting" and _denied(done["port"]["reason"], port)
    except Unavailable as error:
        # Of other files, of uswitchd's state for one, it speaks for itself.
        if not _denied(f"{error.what} {error.value}: {error.why}", port):
            raise
        done, denied = {"created": False}, True
    if not denied:
        return done
    if done["created"]:
        client.port_delete(port["name"])
    directory = os.path.dirname(port["path"])
    raise Forbidden(
        "socket", port["path"], f"uswitchd, {patience.owner(client.path)}, was denied access in"
        f" {patience.described(directory)}",
        "Give the directory to that user and to a group that QEMU's user is in, with mode 2775.",
    )  # fmt: skip


def _denied(complaint: str, port: dict[str, Any]) -> bool:
    """Whether uswitchd speaks of the port's socket, and says that it was not let near it."""
    path = port["path"]
    return DENIED in complaint and (path in complaint or shown(path) in complaint)


def _get(thing: Any, field: str) -> Any:
    """A field of an os-vif object, None if it is not set: reading that would raise."""
    return getattr(thing, field) if field in thing else None


def port_of(
    vif: objects.vif.VIFBase, instance_info: objects.instance_info.InstanceInfo
) -> dict[str, Any]:
    """The port as ``port.ensure`` wants it; raises InvalidInput for what can never be one.

    uswitchd checks all of it again.  What is checked here would otherwise be
    reported as a member of a request, or only once uswitchd is back.
    """
    if not isinstance(vif, objects.vif.VIFVHostUser):
        raise InvalidInput(
            "interface", None, f"is a {type(vif).__name__}, not a VIFVHostUser",
            "Neutron must bind it with vif_type vhostuser: use the mechanism driver uswitch.",
        )  # fmt: skip
    name, path, mode = (_get(vif, field) for field in ("id", "path", "mode"))
    if not name:
        raise InvalidInput("interface", None, "has no id, which is the name of its port")
    if not _is_path(path or ""):
        raise InvalidInput(
            "vhostuser_socket", str(path), "is no absolute path of characters that can be printed",
            "It is in the port's binding:vif_details, set by the mechanism driver.",
        )  # fmt: skip
    size = len(os.fsencode(path))
    if size > UNIX_PATH_MAX:
        raise InvalidInput(
            "vhostuser_socket", path,
            f"has {size} bytes; the kernel allows {UNIX_PATH_MAX} for a socket",
            "Set a shorter vhost_socket_dir in uswitchd.conf, restart uswitchd and the agent, and"
            " bind the port again.",
        )  # fmt: skip
    if mode not in MODES:
        raise InvalidInput(
            "vhostuser_mode", str(mode), "is neither server nor client",
            "It is in the port's binding:vif_details; server is what works best.",
        )  # fmt: skip
    port = {"name": name, "type": "vhost-user", "path": path, "mode": mode,
            "external_ids": external_ids(vif, instance_info)}  # fmt: skip
    mtu = _get(_get(vif, "network") or (), "mtu")
    if mtu:
        port["mtu"] = mtu
    return port


def external_ids(
    vif: objects.vif.VIFBase, instance_info: objects.instance_info.InstanceInfo
) -> dict[str, str]:
    """Whose port it is, for people and for the agent; what is not known is left out."""
    network = _get(vif, "network") or ()
    known = {
        "owner": "nova",
        "instance": _get(instance_info, "uuid"),
        "instance-name": _get(instance_info, "name"),
        "project": _get(instance_info, "project_id"),
        "network": _get(network, "id"),
        "vif-name": _get(vif, "vif_name"),
        "mac": _get(vif, "address"),
    }
    return {key: _plain(str(value)) for key, value in known.items() if value}


def _plain(text: str) -> str:
    """``text`` as a value of external_ids may be: a display name can be anything."""
    return "".join(c if c.isprintable() else "?" for c in text)[:ID_VALUE_MAX]


def _instance(instance_info: objects.instance_info.InstanceInfo) -> str:
    name, uuid = (_get(instance_info, field) for field in ("name", "uuid"))
    return f"{shown(name)} ({uuid})" if name else str(uuid)


def _not_plugged(name: str, instance: str, error: USwitchError) -> USwitchError:
    """What Nova shows and logs: which port of which instance, why, and what to do."""
    why = error.what if error.value is None else f"{error.what} {error.value}"
    why = f"{why}: {error.why}" if error.why else why
    todo = error.todo
    if isinstance(error, InvalidInput) and error.what == "path":
        todo = ("The port belongs to another plugin; or the agent has told Neutron another"
                " directory than uswitchd has.")  # fmt: skip
    return type(error)(f"cannot plug port {name} of instance {instance}", None, why, todo)
