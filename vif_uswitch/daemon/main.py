# SPDX-License-Identifier: Apache-2.0
"""``uswitchd``: the control daemon, from its command line to its last word.

Reads like a table of contents; every line of ``run()`` has a file of its own.
Order matters: nothing is opened before root is refused, no port is touched
before the state could be read, nobody is served before the ports are back.

SIGTERM ends uswitchd alone: packets flow on, the next uswitchd takes the
dataplane over.  SIGINT (Ctrl-C), or ``stop_dataplane_on_exit``, ends both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence

from oslo_config import cfg

from vif_uswitch import conf as options
from vif_uswitch.daemon import instance, isolation, log
from vif_uswitch.daemon.control.peer import group_id
from vif_uswitch.daemon.control.server import ControlServer
from vif_uswitch.daemon.control.service import Service
from vif_uswitch.daemon.defaults import PortDefaults, UplinkDefaults
from vif_uswitch.daemon.fabric import Fabric, FabricSettings
from vif_uswitch.daemon.notify import notify, watchdog_interval_s
from vif_uswitch.daemon.reconcile import Reconciler
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink import static
from vif_uswitch.daemon.uplink.links import LinkWatcher
from vif_uswitch.daemon.uplink.watch import DeviceWatcher
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.exceptions import InvalidInput, NotFound, Unavailable, USwitchError
from vif_uswitch.places import UNIX_PATH_MAX
from vif_uswitch.version import version

LOG = logging.getLogger(__name__)
HEAL_S = 5.0
DATAPLANE_PROGRAM = "uswitch-dataplane"
EXIT_FAILED, EXIT_USAGE = 1, 2
LIBVIRT_SOCKET = len(".sock") + 36 + 1 + 12  # <domain's uuid>-<mac without colons>.sock


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.  Returns the exit status: 0, 1 (failed), 2 (wrong configuration)."""
    try:
        conf = options.load(sys.argv[1:] if argv is None else argv, version())
        isolation.refuse_root(conf.allow_root)
    except InvalidInput as error:
        print(f"uswitchd: {error}", file=sys.stderr)
        return EXIT_USAGE
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    handler = log.setup(debug=conf.debug, as_json=conf.log_json)
    try:
        asyncio.run(run(conf))
        return 0
    except USwitchError as error:
        LOG.critical("%s", error)
        return EXIT_USAGE if isinstance(error, InvalidInput) else EXIT_FAILED
    except Exception:
        LOG.critical("uswitchd ends because of an unexpected error", exc_info=True)
        return EXIT_FAILED
    finally:
        handler.close()


async def run(conf: cfg.ConfigOpts) -> None:
    LOG.info("uswitchd %s starts, uid %d", version(), os.geteuid())
    if conf.user:
        os.umask(0o077)  # nothing of it concerns anybody else
    isolation.isolate()
    isolation.raise_limits()
    control_gid = group_id(conf.control_group, "control_group")
    _take_directories(conf)

    store = StateStore(conf.state_dir)
    desired = static.bring_in(store, static.specs(conf))
    settings = fabric_settings(conf)
    fabric = Fabric(settings)
    reconciler = Reconciler(conf.vhost_socket_dir, port_defaults(conf), store, desired, fabric)
    fabric.on_event = reconciler.port_event
    fabric.on_lost_port = reconciler.port_lost
    watchers = (DeviceWatcher(reconciler.device_news),
                LinkWatcher(reconciler.link_changed, reconciler.device_news))  # fmt: skip
    try:
        await fabric.start()
    except OSError as error:
        raise Unavailable(
            "dataplane program", settings.dataplane_binary,
            f"cannot be started: {error}", "What it said itself stands above.",
        ) from None  # fmt: skip
    keep_dataplane = True
    try:
        for watcher in watchers:
            watcher.start()
        await reconciler.replay()
        stopped = _on_signals()
        service = Service(reconciler, poll_us=conf.dataplane.poll_us)
        server = ControlServer(conf.control_socket, service.call, control_gid)
        await server.start()
        notify(f"READY=1\nSTATUS={len(desired.ports)} ports, {len(desired.segments)} segments")
        LOG.info("ready: %d ports, %d segments", len(desired.ports), len(desired.segments))

        async with _housekeeping(reconciler):
            reason = await stopped
        notify("STOPPING=1")
        keep_dataplane = reason != signal.SIGINT and not conf.stop_dataplane_on_exit
        LOG.info("%s: stopping%s", reason.name, "; the dataplane goes on" if keep_dataplane else "")
        await server.stop()
    finally:
        for watcher in watchers:
            watcher.stop()
        await fabric.stop(keep_dataplane)
    LOG.info("stopped")


def _on_signals() -> asyncio.Future[signal.Signals]:
    """From here on signals end uswitchd in order; until now they simply ended it."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return stopped


def _take_directories(conf: cfg.ConfigOpts) -> None:
    """Directories and locks.  The locks are held until the process ends."""
    own = conf.user
    vhost_gid = group_id(conf.vhost_socket_group, "vhost_socket_group")
    instance.prepare_directory(conf.run_dir, 0o700 if own else 0o755, "run_dir", own=own)
    instance.prepare_directory(conf.state_dir, 0o700, "state_dir", own=own)
    instance.lock(conf.run_dir, "run_dir")
    if os.path.realpath(conf.state_dir) != os.path.realpath(conf.run_dir):
        instance.lock(conf.state_dir, "state_dir")
    # QEMU is another user, who comes in by the group; or the same one.
    mode = 0o700 if own else 0o2770
    instance.prepare_directory(
        conf.vhost_socket_dir, mode, "vhost_socket_dir", vhost_gid, own=own
    )
    left = UNIX_PATH_MAX - len(os.fsencode(conf.vhost_socket_dir)) - 1
    if left < LIBVIRT_SOCKET:
        LOG.warning(
            "vhost_socket_dir %s leaves %d bytes for the name of a socket; for an interface of"
            " libvirt's it has %d. Set a shorter run_dir", conf.vhost_socket_dir, left,
            LIBVIRT_SOCKET,
        )  # fmt: skip


def fabric_settings(conf: cfg.ConfigOpts) -> FabricSettings:
    return FabricSettings(
        run_dir=conf.run_dir,
        dataplane_binary=find_dataplane(conf.dataplane.binary),
        workers=conf.dataplane.workers,
        poll_us=conf.dataplane.poll_us,
        cpus=tuple(conf.dataplane.cpus),
        fdb_buckets=conf.dataplane.fdb_buckets,
        fdb_age_s=conf.dataplane.fdb_age,
        rebalance_ms=conf.dataplane.rebalance_s * 1000,
        vhost_socket_dir=conf.vhost_socket_dir,
        socket_mode=int(conf.vhost_socket_mode, 8),
        socket_group=conf.vhost_socket_group,
    )


def port_defaults(conf: cfg.ConfigOpts) -> PortDefaults:
    section, uplink = conf.port_defaults, conf.uplink
    return PortDefaults(
        flood_rate=section.flood_rate,
        flood_burst=section.flood_burst,
        fdb_quota=section.fdb_quota,
        queues=section.queues,
        features_off=0 if section.ring_reset else virtio.RING_RESET,
        mtu=section.mtu,
        max_kbps=section.max_kbps,
        max_burst_kbps=section.max_burst_kbps,
        max_kpps=section.max_kpps,
        max_burst_kpps=section.max_burst_kpps,
        uplink=UplinkDefaults(
            queues=uplink.queues or min(conf.dataplane.workers, 8),
            ring_size=uplink.ring_size,
            irq_us=uplink.irq_us,
            fdb_quota=uplink.fdb_quota,
        ),
    )


def find_dataplane(configured: str) -> str:
    """The dataplane's program: as configured, beside our Python, or on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), DATAPLANE_PROGRAM)
    candidates = [configured] if configured else [beside, DATAPLANE_PROGRAM]
    for candidate in candidates:
        if found := shutil.which(candidate):
            return os.path.abspath(found)
    raise NotFound(
        "dataplane program", configured or DATAPLANE_PROGRAM,
        "is not there or not executable" if configured else f"is neither {beside} nor on PATH",
        "Install it, or set option binary in [dataplane].",
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _housekeeping(reconciler: Reconciler) -> AsyncIterator[None]:
    """While the body runs: heal ports now and then, at once if asked to, and show systemd that
    the loop turns."""

    async def turn() -> None:
        every = min(HEAL_S, watchdog_interval_s() or HEAL_S)
        while True:
            notify("WATCHDOG=1")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reconciler.wake.wait(), every)
            reconciler.wake.clear()
            try:
                await reconciler.heal()
            except Exception:
                LOG.exception("healing failed")

    task = asyncio.create_task(turn())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
