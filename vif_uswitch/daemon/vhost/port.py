# SPDX-License-Identifier: Apache-2.0
"""A vhost-user port: its socket, the one session on it, and the doing of what the session decides.

The shell around ``dispatch.py``: it takes a connection from ``endpoint.py``,
hands on the messages of ``connection.py``, performs the actions that they lead
to on the dataplane, and puts into escrow what a reply promises before the
reply leaves.  One peer at a time: a second
connection is closed at once, unless the first peer is already gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace

from vif_uswitch.daemon import escrow
from vif_uswitch.daemon.fabric_port import FabricPort, Slots, Surroundings
from vif_uswitch.daemon.model import Link, Mode, PortConfig, PortLive
from vif_uswitch.daemon.vhost import features as virtio
from vif_uswitch.daemon.vhost.actions import Action, Note, Save, StopRing
from vif_uswitch.daemon.vhost.adoption import adopt_listener, adopt_session
from vif_uswitch.daemon.vhost.calls import call, forget
from vif_uswitch.daemon.vhost.connection import Connection
from vif_uswitch.daemon.vhost.dispatch import handle
from vif_uswitch.daemon.vhost.endpoint import Connector, Listener, peer_pid
from vif_uswitch.daemon.vhost.fds import Fds, write_eventfds
from vif_uswitch.daemon.vhost.msg import Message
from vif_uswitch.daemon.vhost.ring_position import next_avail
from vif_uswitch.daemon.vhost.ring_start import replay
from vif_uswitch.daemon.vhost.session import Session
from vif_uswitch.dataplane.base import (
    Dataplane,
    DataplaneGone,
    DataplaneRefused,
    Event,
    MemRegion,
)
from vif_uswitch.dataplane.statepage import StatePage

LOG = logging.getLogger(__name__)
EVERY_RING = 0xFFFFFFFF  # US_ANY: what broke concerns the port as a whole


class VhostPort(FabricPort):
    def __init__(self, config: PortConfig, page: StatePage, around: Surroundings) -> None:
        super().__init__(config, page, around)
        self.listener: Listener | None = None
        self._connector: Connector | None = None
        self.session: Session | None = None
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._next: socket.socket | None = None  # came while a dead peer was being tidied up
        self._sessions = 0
        self._departed = False
        self._closing = False
        self._err_writer: threading.Thread | None = None

    def fenced(self, event: Event) -> None:
        """Tells the front-end as well, by the broken ring's err eventfd, or all of them."""
        super().fenced(event)
        rings = self.session.rings if self.session is not None else []
        fds = [r.err for r in rings if r.err is not None and event.ring in (r.index, EVERY_RING)]
        if fds and (self._err_writer is None or not self._err_writer.is_alive()):
            self._err_writer = write_eventfds(fds)

    @classmethod
    def make(cls, config: PortConfig, around: Surroundings) -> VhostPort:
        """A new port; raises what the control API shall answer if its socket cannot be."""
        port = cls(config, StatePage.make(config.port_id), around)
        try:
            port.open_socket()
        except BaseException:
            port.page.close()
            raise
        return port

    def open_socket(self) -> None:
        """Listens or connects, as the mode says; keeps a listening socket that was adopted."""
        if self._connector is not None:
            return
        around, path = self.around, self.config.path
        if self.config.mode is Mode.CLIENT:
            if self.listener is None:
                self.listener = Listener.make(
                    path, around.vhost_socket_dir, around.socket_mode, around.socket_gid,
                    self._take,
                )  # fmt: skip
            return
        self._connector = Connector(
            path, around.vhost_socket_dir, around.watcher, self._take, self._complain
        )
        if self.session is None:
            self._connector.resume()

    async def heal(self) -> None:
        """Opens the socket, if that failed when the port was adopted."""
        had = self.listener
        self.open_socket()
        if self.listener is not had:
            async with self.lock:
                await self.save(escrow.SLOT_LISTENER)

    def _complain(self, text: str) -> None:
        self.last_error = text
        self.say(text)

    # ---- connections ----

    def _take(self, sock: socket.socket) -> None:
        """A new connection, from the listener or the connector."""
        if self._closing:
            sock.close()
        elif self._connection is None:
            self._begin(sock)
        elif self._connection.hung_up:
            self._close_next()
            self._next = sock  # _end() is on its way
        else:
            self.say(f"refused a second connection, of process {peer_pid(sock)}")
            sock.close()

    def _begin(self, sock: socket.socket) -> None:
        config = self.config
        pid = peer_pid(sock)
        offered = virtio.offered(config.features_off, config.queues)
        session = Session(offered, config.mtu, config.queues, pid)
        self.say(f"process {pid} connected")
        self._start_session(session, sock, fresh=True)

    def _start_session(self, session: Session, sock: socket.socket, fresh: bool) -> None:
        self._sessions += 1
        self._tell_config(session)
        self.session = session
        self._connection = Connection(sock, self.lock, self._set_busy)
        self._task = asyncio.create_task(self._serve(self._connection, session, fresh))

    def _set_busy(self, busy: bool) -> None:
        self.page.busy = busy

    async def _serve(self, connection: Connection, session: Session, fresh: bool) -> None:
        reason = "an internal error, see the log of uswitchd"
        try:
            if fresh:
                async with self.lock:
                    await self.save(escrow.SLOT_SESSION)
            reason = await connection.serve(self._handle)
        except Exception:  # one port's defect must not be another's
            LOG.exception("port %d: a session failed", self.port_id)
        finally:
            async with self.lock:
                if self.session is session:
                    await self._end(reason)

    async def _end(self, reason: str) -> None:
        """Under the lock: tidies up after a peer, and makes room for the next."""
        session, connection = self.session, self._connection
        assert session is not None and connection is not None
        self.last_error = reason
        self.say(f"session ended: {reason}" if reason else "the peer hung up")
        self._drop_session()
        with suppress(DataplaneRefused):
            await self.ask(lambda dataplane: forget(dataplane, self.port_id, session))
        self._set_busy(False)
        if self._next is not None:
            sock, self._next = self._next, None
            self._begin(sock)
        elif self._connector is not None and not self._closing:
            self._connector.resume(at_once=not reason)

    def _drop_session(self) -> None:
        session, connection = self.session, self._connection
        self.session = self._connection = self._task = None
        if connection is not None:
            connection.close()
        if session is not None:
            session.close()

    def _close_next(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    # ---- messages ----

    async def _handle(self, message: Message, fds: Fds) -> bytes | None:
        """Under the lock, which the connection holds."""
        session = self.session
        assert session is not None
        reply = await self._perform_all(handle(session, message, fds))
        await self._follow_guest(session)
        return reply

    async def _follow_guest(self, session: Session) -> None:
        """Lets go of the addresses of a guest that migrates, and has them again with a guest.

        Before the answer that the last ring has stopped: the guest runs elsewhere after that,
        and the segment must be able to learn where.
        """
        departed = session.departing or (self._departed and session.stopped)
        if departed != self._departed:
            self._departed = departed
            await self._tell_pins()

    async def _perform_all(self, steps: Generator[Action, int, bytes | None]) -> bytes | None:
        try:
            action = next(steps)
            while True:
                try:
                    result = await self._perform(action)
                except DataplaneRefused as refusal:
                    action = steps.throw(refusal)
                else:
                    action = steps.send(result)
        except StopIteration as end:
            reply: bytes | None = end.value
            return reply
        finally:
            steps.close()

    async def _perform(self, action: Action) -> int:
        if isinstance(action, StopRing):
            return await self._stop_ring(action.ring)
        if isinstance(action, Save):
            await self.save(*action.slots)
        elif isinstance(action, Note):
            self._complain(action.text)
        else:
            asked = action
            await self.ask(lambda dataplane: call(dataplane, self.port_id, asked))
        return 0

    async def _stop_ring(self, ring: int) -> int:
        """The next avail index, when nobody serves the ring any more: alive or dead for certain."""
        dataplane = self.dataplane
        if dataplane is not None:
            try:
                return await dataplane.ring_stop(self.port_id, ring)
            except DataplaneGone:
                self.detach(dataplane)
        await self.around.settled()
        assert self.session is not None
        return next_avail(self.session, self.page, ring)

    # ---- FabricPort ----

    @property
    def pins(self) -> tuple[bytes, ...]:
        """None once the guest has left by live migration, until there is one again."""
        return () if self._departed else self.config.macs

    async def _replay(self, dataplane: Dataplane) -> None:
        for slot in self._slots():
            await self._put(dataplane, slot)
        if self.session is None:
            return
        for action in replay(self.session):
            try:
                await call(dataplane, self.port_id, action)
            except DataplaneRefused as error:
                # Only this port stays down; its guest can reset the device.
                self._complain(f"a new dataplane does not take it over: {error}")

    def _slots(self) -> tuple[int, ...]:
        listener = (escrow.SLOT_LISTENER,) if self.listener is not None else ()
        return listener + (self.session.slots if self.session is not None else ())

    def entry(self, slot: int) -> tuple[escrow.Record, tuple[int, ...]]:
        if slot == escrow.SLOT_PORT:
            return super().entry(slot)
        if slot == escrow.SLOT_LISTENER:
            assert self.listener is not None
            record = escrow.ListenerRecord(*self.listener.identity)
            return record, (self.listener.sock.fileno(),)
        assert self.session is not None and self._connection is not None
        found, fds = self.session.entry(slot)
        if slot == escrow.SLOT_SESSION:
            fds = (self._connection.sock.fileno(),)
        return found, fds

    def _configured(self, old: PortConfig) -> None:
        if self.session is not None:
            self._tell_config(self.session)

    def _tell_config(self, session: Session) -> None:
        """What a session goes by, when it begins and when the configuration changes."""
        session.mtu = self.config.mtu
        session.arrival.address = self.config.address

    def _let_go_of_peer(self) -> None:
        self._stop_sources()
        if self.listener is not None:
            self.listener.close()
        self._drop_session()

    def _forget_peer(self) -> None:
        self._stop_sources()
        if self.listener is not None:
            self.listener.forget()
        if self._connection is not None:
            self._connection.forget()
        if self.session is not None:
            self.session.close()
        self.session = self._connection = self._task = None

    def _stop_sources(self) -> None:
        self._closing = True
        if self._task is not None:
            self._task.cancel()
        self._close_next()
        if self._connector is not None:
            self._connector.close()

    def _live(self) -> PortLive:
        session = self.session
        if session is None:
            return PortLive(link=Link.WAITING, sessions=self._sessions)
        memory: tuple[MemRegion, ...] = session.memory
        live = PortLive(
            link=Link.UP if session.running and self.dataplane is not None else Link.NEGOTIATING,
            peer_pid=session.record.peer_pid,
            virtio_features=session.record.features,
            protocol_features=session.record.protocol_features,
            memory_regions=len(memory),
            memory_bytes=sum(region.size for region in memory),
            sessions=self._sessions,
        )
        rings = (self.page.ring(r.index, session.enabled(r)) for r in session.rings_used)
        return replace(live, rings=tuple(rings))

    # ---- adoption ----

    def adopt(self, slots: Slots) -> str:
        """Takes up what an earlier uswitchd left in escrow; takes all fds of ``slots``.

        Returns why the peer was let go, or "".
        """
        listening = slots.pop(escrow.SLOT_LISTENER, None)
        if listening is not None:  # without it open_socket() makes a new one
            self.listener = adopt_listener(self.config.path, listening, self._take)
        found = adopt_session(self.config, self.page.busy, slots)
        if found is None:
            return ""
        self._departed = found.session.departing
        self._start_session(found.session, found.sock, fresh=False)
        return found.reason
