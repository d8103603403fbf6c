# SPDX-License-Identifier: Apache-2.0
"""Every option of ``uswitchd``: its name, default, limits and what an operator should know.

Importing this file registers nothing.  ``load()`` makes a configuration for
``daemon/main.py``; ``list_opts()`` is what ``oslo-config-generator`` asks for
when it writes ``etc/uswitchd.conf.sample``.
"""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg, types

from vif_uswitch import places
from vif_uswitch.exceptions import InvalidInput

DEFAULT_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "run_dir",
        default="/run/uswitch",
        help="Directory for what lives as long as the host is up: the control socket, the link to"
        " the dataplane, the vhost-user sockets. Only one uswitchd can use it. Must be"
        " writable for the user that runs uswitchd. Keep it short: a socket's path has at"
        " most 107 bytes.",
    ),
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/uswitch",
        help="Directory for what must survive a reboot: the ports and segments, in state.json.",
    ),
    cfg.StrOpt(
        "vhost_socket_dir",
        default="$run_dir/vhost",
        help="Directory of the vhost-user sockets. Ports whose socket lies elsewhere are refused."
        " Both uswitchd and QEMU need access.",
    ),
    cfg.StrOpt(
        "vhost_socket_mode",
        default="0660",
        regex=r"^0?[0-7]{3}$",
        help="Permissions, in octal, of vhost-user sockets that uswitchd listens on.",
    ),
    cfg.StrOpt(
        "vhost_socket_group",
        default="",
        help="Group that owns vhost-user sockets that uswitchd listens on; QEMU's user should be in"
        " it. Empty: the group of uswitchd. uswitchd must be a member.",
    ),
    cfg.StrOpt(
        "control_socket",
        default="$run_dir/control.sock",
        help="Path of the control API's socket.",
    ),
    cfg.StrOpt(
        "control_group",
        default="",
        help="Group whose members may use the control API, besides root and the user of uswitchd."
        " Empty: nobody else. uswitchd must be a member, so that it can hand the socket to"
        " the group.",
    ),
]

CLI_OPTS: list[cfg.Opt] = [
    cfg.BoolOpt("debug", default=False, help="Log debug messages too."),
    cfg.BoolOpt(
        "log-json",
        default=False,
        help="Log one JSON object a line instead of text.",
    ),
    cfg.BoolOpt(
        "allow-root",
        default=False,
        help="Start even as root. Neither uswitchd nor the dataplane needs any privilege; running"
        " them as root gives whoever breaks out of them the whole host.",
    ),
    cfg.BoolOpt(
        "stop-dataplane-on-exit",
        default=False,
        help="Whether SIGTERM stops the dataplane too. By default packets flow on without"
        " uswitchd, and the next uswitchd takes over; that is what makes an upgrade"
        " harmless. SIGINT (Ctrl-C) always stops both.",
    ),
]

USER_OPT = cfg.BoolOpt(
    "user",
    default=False,
    help="The switch of an ordinary user, for guests of qemu:///session: run_dir is"
    " $XDG_RUNTIME_DIR/uswitch, state_dir ~/.local/state/uswitch, the configuration"
    " ~/.config/uswitch/uswitchd.conf.",
)
"""On the command line only: it says which configuration is read."""

DATAPLANE_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "binary",
        default="",
        sample_default="<uswitch-dataplane beside uswitchd's Python, else on PATH>",
        help="Path of the program uswitch-dataplane.",
    ),
    cfg.IntOpt(
        "workers",
        default=1,
        min=1,
        max=32,
        help="Threads that move packets. One serves many guests; add one where a core is busy all"
        " the time (see 'uswitchctl worker list').",
    ),
    cfg.IntOpt(
        "poll_us",
        default=50,
        min=0,
        max=1_000_000,
        help="Microseconds a worker goes on looking for packets before it sleeps. Higher lowers"
        " latency under light load and costs CPU; 0 sleeps at once.",
    ),
    cfg.ListOpt(
        "cpus",
        default=[],
        item_type=types.Integer(min=0, max=4095),
        sample_default=[],
        help="CPUs to pin the workers to, in order, for example 2,3. Empty: not pinned. If given,"
        " as many as there are workers.",
    ),
    cfg.IntOpt(
        "rebalance_s",
        default=1,
        min=0,
        max=3600,
        help="With several workers: how often, in seconds, the load of each guest's queues is"
        " looked at, and queues are moved from busy workers to idle ones, without losing or"
        " reordering packets. While no packet moves nobody looks. 0: a queue stays where it began.",
    ),
    cfg.IntOpt(
        "fdb_buckets",
        default=16384,
        min=16,
        max=1048576,
        help="Size of the table of MAC addresses: buckets of five, a power of two. The default"
        " holds up to 81920 addresses in 1 MiB.",
    ),
    cfg.IntOpt(
        "fdb_age",
        default=300,
        min=1,
        max=65000,
        help="Seconds until an address that sent nothing is forgotten.",
    ),
]

PORT_DEFAULTS_OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "flood_rate",
        default=100_000,
        min=0,
        max=2**32 - 1,
        help="Copies a second that a port may cause by broadcast, multicast and frames to unknown"
        " addresses, so that a noisy guest cannot fill everybody's rings. 0: no limit."
        " This and what follows are defaults for ports that do not say.",
    ),
    cfg.IntOpt(
        "flood_burst",
        default=20_000,
        min=0,
        max=2**32 - 1,
        help="Copies that a port may cause at once after a quiet time.",
    ),
    cfg.IntOpt(
        "fdb_quota",
        default=256,
        min=0,
        max=5 * 1048576,
        help="Addresses learned from one port, at most. Raise it for a port with many stations"
        " behind it.",
    ),
    cfg.IntOpt(
        "mtu",
        default=1500,
        min=68,
        max=65521,
        help="Bytes of layer 3 payload in a frame; longer frames are dropped and counted.",
    ),
    cfg.IntOpt(
        "queues",
        default=8,
        min=1,
        max=8,
        help="Queue pairs that a guest may use, at most. Those it does not use cost nothing.",
    ),
    cfg.BoolOpt(
        "ring_reset",
        default=False,
        help="Offer VIRTIO_F_RING_RESET, which lets a guest give one ring another size without a"
        " reset of the device. Only for VMMs that tell the switch of such a reset (by"
        " GET_VRING_BASE): with one that keeps it to itself, the switch would go on using"
        " memory that the guest has taken back.",
    ),
    cfg.IntOpt(
        "max_kbps",
        default=0,
        min=0,
        max=2**31 - 1,
        help="Kilobits a second that a port may send into the switch. What is beyond waits in the"
        " guest's ring, so that the guest notices and nothing is dropped; a TAP device's queue in"
        " the kernel drops. 0: no limit.",
    ),
    cfg.IntOpt(
        "max_burst_kbps",
        default=0,
        min=0,
        max=2**31 - 1,
        help="Kilobits that a port with max_kbps may send at once after a quiet time. 0: eight"
        " tenths of what it may send in a second.",
    ),
    cfg.IntOpt(
        "max_kpps",
        default=0,
        min=0,
        max=2**31 - 1,
        help="Thousands of frames a second that a port may send; a large frame that is to be"
        " segmented counts as one. 0: no limit.",
    ),
    cfg.IntOpt(
        "max_burst_kpps",
        default=0,
        min=0,
        max=2**31 - 1,
        help="Thousands of frames that a port with max_kpps may send at once after a quiet time."
        " 0: eight tenths of what it may send in a second.",
    ),
]

UPLINK_OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "queues",
        default=0,
        min=0,
        max=8,
        help="Queue pairs of an uplink that does not say; received flows are spread over them, and"
        " each is served by one worker. 0: as many as there are workers, at most 8. Raise it only"
        " as far as the adapter has queues.",
    ),
    cfg.IntOpt(
        "ring_size",
        default=0,
        min=0,
        max=32768,
        help="Descriptors in each ring of an uplink that does not say. 0: what the adapter's driver"
        " prefers.",
    ),
    cfg.IntOpt(
        "irq_us",
        default=20,
        min=0,
        max=10_000,
        help="Microseconds between two interrupts of an adapter's queue, at least, for uplinks that"
        " do not say. While a worker polls there are none. 0: as often as there is work.",
    ),
    cfg.IntOpt(
        "fdb_quota",
        default=16384,
        min=0,
        max=5 * 1048576,
        help="Addresses learned from an uplink that does not say, at most. Every station of the"
        " physical network that talks to a guest takes one.",
    ),
]

STATIC_UPLINK_OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "pci",
        default="",
        help="An uplink that is there from the start: one section [uplink:NAME] for each. Its name,"
        " and all of it, is changed here only; the API refuses to. PCI address of the adapter, as"
        " 'uswitch-uplink list' shows it, if the switch drives it itself. Either this or ifname is"
        " needed.",
    ),
    cfg.StrOpt(
        "ifname",
        default="",
        help="Name of the network device, if the kernel keeps it and the switch uses AF_XDP.",
    ),
    cfg.StrOpt(
        "physnet",
        default="",
        help="Name of the physical network behind it, as Neutron knows it.",
    ),
    cfg.StrOpt(
        "segment",
        help="Segment of frames without a VLAN tag. Segments that do not exist are made. Not set:"
        " such frames are dropped.",
    ),
    cfg.ListOpt(
        "vlans",
        default=[],
        help="VLAN ids and their segments, for example 100=blue,200=red.",
    ),
    cfg.IntOpt("mtu", min=68, max=65521, help="Like mtu in [port_defaults], which is the default."),
    cfg.IntOpt("queues", min=1, max=8, help="Queue pairs, exactly. Not set: see [uplink]."),
    cfg.IntOpt("ring_size", min=0, max=32768, help="Like ring_size in [uplink], the default."),
    cfg.IntOpt("irq_us", min=0, max=10_000, help="Like irq_us in [uplink], the default."),
    cfg.BoolOpt(
        "zero_copy",
        default=False,
        help="With pci: send out of the guests' memory without a copy, all of which is locked for"
        " that. With ifname: zero-copy sockets.",
    ),
    cfg.BoolOpt("lro", default=False, help="Let the adapter join received TCP segments."),
    cfg.IntOpt(
        "fdb_quota", min=0, max=5 * 1048576, help="Like fdb_quota in [uplink], the default."
    ),
    cfg.IntOpt(
        "flood_rate", min=0, max=2**32 - 1, help="Like flood_rate in [port_defaults], the default."
    ),
    cfg.IntOpt(
        "flood_burst",
        min=0,
        max=2**32 - 1,
        help="Like flood_burst in [port_defaults], the default.",
    ),
    cfg.BoolOpt("admin_up", default=True, help="Whether frames flow."),
    cfg.StrOpt("description", default="", help="A note for operators."),
]

UPLINK_PREFIX = "uplink:"
UPLINK_SAMPLE = "uplink:<name>"
"""The section as the sample has it, without any option: stands for nothing."""

GROUPS: dict[str, list[cfg.Opt]] = {
    "DEFAULT": [*DEFAULT_OPTS, *CLI_OPTS],
    "dataplane": DATAPLANE_OPTS,
    "port_defaults": PORT_DEFAULTS_OPTS,
    "uplink": UPLINK_OPTS,
}


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Entry point ``oslo.config.opts``."""
    groups = {**GROUPS, UPLINK_SAMPLE: STATIC_UPLINK_OPTS}
    return [(group, list(opts)) for group, opts in groups.items()]


def static_uplinks(conf: cfg.ConfigOpts) -> list[str]:
    """Names of the uplinks that ``conf`` has a section for, each in ``conf["uplink:NAME"]``."""
    return sorted(group.removeprefix(UPLINK_PREFIX) for group in conf if UPLINK_PREFIX in group)


def load(argv: Sequence[str], version: str) -> cfg.ConfigOpts:
    """The configuration from command line and files; InvalidInput with file, option and reason.

    oslo.config ends the process itself for --help, --version and a malformed
    command line (status 2), which is what a user expects.
    """
    conf = cfg.ConfigOpts()
    for group, opts in GROUPS.items():
        own = [opt for opt in opts if opt not in CLI_OPTS]
        conf.register_opts(own, group=None if group == "DEFAULT" else group)
    conf.register_cli_opts([*CLI_OPTS, USER_OPT])
    for_user = "--user" in argv
    found: dict[str, Any] = _own_files() if for_user else {}
    try:
        conf(list(argv), project="uswitch", prog="uswitchd", version=version, **found)
        _check_user(conf, for_user)
        files = [*(conf.config_file or []), *_dir_files(conf)]
        uplinks: set[str] = set()
        for path in files:
            uplinks |= _refuse_unknown(path)
        _refuse_twins(uplinks)
        for group in uplinks:
            conf.register_opts(STATIC_UPLINK_OPTS, group=cfg.OptGroup(group))
        for group, opts in {**GROUPS, **dict.fromkeys(uplinks, STATIC_UPLINK_OPTS)}.items():
            for opt in opts:
                _value(conf, group, opt)
    except cfg.ConfigFilesNotFoundError as error:
        raise InvalidInput(
            "configuration file", ", ".join(error.config_files), "cannot be read",
            "Check that it exists and that the user of uswitchd may read it.",
        ) from None  # fmt: skip
    except cfg.ConfigFilesPermissionDeniedError as error:
        raise InvalidInput(
            "configuration file", ", ".join(error.config_files), "permission denied"
        ) from None
    except (cfg.Error, OSError, UnicodeDecodeError) as error:
        raise InvalidInput("configuration", None, " ".join(str(error).split())) from None
    _check(conf)
    return conf


def _own_files() -> dict[str, list[str]]:
    """What a user's own switch reads unless the command line names others; oslo.config by itself
    would look for the host's."""
    file = places.config_file()
    directory = f"{file}.d"
    return {
        "default_config_files": [file] if os.path.lexists(file) else [],
        "default_config_dirs": [directory] if os.path.isdir(directory) else [],
    }


def _check_user(conf: cfg.ConfigOpts, for_user: bool) -> None:
    """Defaults of a user's own switch.  A missing directory matters only where it is used."""
    if conf.user != for_user:
        raise InvalidInput("option user", conf.user, "is for the command line alone: --user")
    if not for_user:
        return
    for name in ("vhost_socket_group", "control_group"):
        if conf[name]:
            raise InvalidInput(
                f"option {name}", conf[name],
                "is for the host's switch: all directories of a user's own are closed to others",
                "Remove it.",
            )  # fmt: skip
    conf.set_default("state_dir", places.state_dir())
    conf.set_default("vhost_socket_mode", "0600")
    try:
        conf.set_default("run_dir", places.run_dir())
    except InvalidInput:
        conf.set_default("run_dir", "")
        if not conf.run_dir:
            raise


def _dir_files(conf: cfg.ConfigOpts) -> list[str]:
    directories = conf.config_dir or []
    return sorted(
        itertools.chain.from_iterable(
            glob.glob(os.path.join(glob.escape(path), "*.conf")) for path in directories
        )
    )


def _value(conf: cfg.ConfigOpts, group: str, opt: cfg.Opt) -> object:
    try:
        return getattr(conf if group == "DEFAULT" else conf[group], opt.dest)
    except (cfg.Error, ValueError) as error:
        # Of a "$name" that does not exist, only the error beneath tells.
        cause = error.__context__ if isinstance(error, cfg.NoSuchOptError) else error
        text = " ".join(str(cause).split())
        # oslo.config shows its own objects here; an operator wants the file.
        found = re.match(r".*detail='([^']*)'\) is not valid: (.*)", text)
        why = f"{found[2]} (in {found[1]})" if found else text
        why = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"no integer: \1", why)
        raise InvalidInput(f"option {opt.dest} in [{group}]", None, why) from None


def _refuse_unknown(path: str) -> set[str]:
    """oslo.config ignores what it does not know; a misspelt option must not pass for a set one.

    Returns the sections of uplinks.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(path, sections).parse()
    uplinks = {name for name, values in sections.items() if name.startswith(UPLINK_PREFIX)
               and (values or name != UPLINK_SAMPLE)}  # fmt: skip
    for section, values in sections.items():
        if section in uplinks or section == UPLINK_SAMPLE:
            names = [opt.dest for opt in STATIC_UPLINK_OPTS]
        elif section in GROUPS:
            names = [opt.dest for opt in GROUPS[section]]
        else:
            raise _unknown("section", f"[{section}]", [*GROUPS, "uplink:NAME"], section, path)
        for name in values:
            if name.replace("-", "_") not in names:
                raise _unknown("option", f"{name} in [{section}]", names, name, path)
    return uplinks


def _refuse_twins(sections: set[str]) -> None:
    """oslo.config takes sections for the same whose names differ in case only; uplinks are two."""
    for section in sections:
        for other in sections:
            if section < other and section.lower() == other.lower():
                raise InvalidInput(
                    "section", f"[{other}]", f"differs from [{section}] in case only",
                    "Give one of the two uplinks another name.",
                )  # fmt: skip


def _unknown(what: str, shown: str, names: list[str], name: str, path: str) -> InvalidInput:
    close = difflib.get_close_matches(name, names, n=1)
    todo = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(names)}."
    return InvalidInput(what, shown, f"is unknown (in {path})", todo)


def _check(conf: cfg.ConfigOpts) -> None:
    """What the limits of one option cannot say."""
    buckets = conf.dataplane.fdb_buckets
    if buckets & (buckets - 1):
        raise InvalidInput(
            "option fdb_buckets in [dataplane]", buckets, "is no power of two",
            f"Use {1 << buckets.bit_length()}.",
        )  # fmt: skip
    cpus, workers = conf.dataplane.cpus, conf.dataplane.workers
    if cpus and len(cpus) != workers:
        raise InvalidInput(
            "option cpus in [dataplane]", cpus, f"names {len(cpus)} CPUs for {workers} workers",
            "Give one CPU for each worker, or none.",
        )  # fmt: skip
    for name in ("run_dir", "state_dir", "vhost_socket_dir", "control_socket"):
        if not str(conf[name]).startswith("/"):
            raise InvalidInput(f"option {name}", conf[name], "is no absolute path")
    size = len(os.fsencode(conf.control_socket))
    if size > places.UNIX_PATH_MAX:
        raise InvalidInput(
            "option control_socket", conf.control_socket,
            f"has {size} bytes; the kernel allows {places.UNIX_PATH_MAX} for a socket",
            "Set a shorter run_dir.",
        )  # fmt: skip
