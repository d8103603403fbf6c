# SPDX-License-Identifier: Apache-2.0
"""RPC between neutron-server and agents in other processes, without a message broker.

Each process has oslo.messaging's in-memory transport and real Neutron on it.
The relay stands in for the broker: in the agent's process it consumes what the
agent sends to neutron-server, in the server's what is sent to agents; between
them lies a unix socket.  ``ServerEnd.cut()`` is a broker that goes away, ``mute()`` one that was
away between two heartbeats: announcements are lost, questions wait for it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import neutron  # noqa: F401  (first, see vif_uswitch/ml2/compat.py)
import oslo_messaging
from neutron_lib import context as neutron_context
from neutron_lib import rpc
from neutron_lib.agent import topics
from neutron_lib.constants import RPC_NAMESPACE_STATE

FANOUT = [
    topics.get_topic_name(topics.AGENT, thing, what)
    for thing, what in (
        (topics.PORT, topics.UPDATE), (topics.PORT, topics.DELETE),
        (topics.PORT_BINDING, topics.ACTIVATE), (topics.PORT_BINDING, topics.DEACTIVATE),
        (topics.NETWORK, topics.UPDATE), (topics.NETWORK, topics.DELETE),
    )
]  # fmt: skip
PATIENCE_S = 60
CONNECT_S = 120


class Forward:
    """An RPC endpoint with every method: what is called is handed on."""

    target: Any = None

    def __init__(self, hand_on: Any, topic: str, namespace: str | None = None) -> None:
        self.target = oslo_messaging.Target(version="1.99", namespace=namespace)
        self._to = hand_on, topic, namespace

    def __getattr__(self, method: str) -> Any:
        hand_on, topic, namespace = self._to

        def call(context: Any, **kwargs: Any) -> Any:
            return hand_on((topic, namespace, method, context.to_dict(), kwargs))

        return call


def _client(topic: str, namespace: str | None) -> Any:
    return rpc.get_client(oslo_messaging.Target(topic=topic, version="1.0", namespace=namespace))


def state_client(topic: str) -> Any:
    return _client(topic, RPC_NAMESPACE_STATE)


class ServerEnd:
    """In neutron-server's process."""

    def __init__(self, path: str) -> None:
        self._listener = Listener(path, "AF_UNIX")
        self._agents: list[Connection] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8)
        self.is_cut = self.is_mute = False
        self._lost: list[str] = []  # announcements of ports, since the broker went away
        self._losing = threading.Condition()
        consumers = rpc.Connection()
        for topic in FANOUT:
            consumers.create_consumer(topic, [Forward(self._to_agents, topic)], fanout=True)
        consumers.consume_in_threads()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, is_cut: bool) -> None:
        """Lose everything from now on, or no more."""
        self._forget_lost()
        self.is_cut = is_cut

    def mute(self, is_mute: bool) -> None:
        """Lose what is announced to agents, and nothing else, from now on, or no more."""
        self._forget_lost()
        self.is_mute = is_mute

    def _forget_lost(self) -> None:
        with self._losing:
            self._lost.clear()

    def wait_lost(self, words: list[str]) -> None:
        """Until an announcement of a port with these words was lost: it is sent some time later."""
        with self._losing:
            assert self._losing.wait_for(
                lambda: any(all(word in lost for word in words) for lost in self._lost), PATIENCE_S
            ), f"not lost: {words}; lost: {self._lost}"

    def _accept(self) -> None:
        while True:
            agent = self._listener.accept()
            with self._lock:
                self._agents.append(agent)
            threading.Thread(target=self._serve, args=(agent,), daemon=True).start()

    def _serve(self, agent: Connection) -> None:
        try:
            while True:
                self._pool.submit(self._call, agent, *agent.recv())
        except (EOFError, OSError):
            with self._lock:
                self._agents.remove(agent)

    def _call(self, agent: Connection, number: int, call: Any) -> None:
        topic, namespace, method, context, kwargs = call
        try:
            if self.is_cut:
                raise oslo_messaging.MessageDeliveryFailure("the broker is away")
            client = _client(topic, namespace).prepare(timeout=PATIENCE_S)
            result = client.call(neutron_context.Context.from_dict(context), method, **kwargs)
            answer: Any = (number, True, result)
        except oslo_messaging.MessageDeliveryFailure as error:
            answer = (number, False, error)
        except Exception as error:
            answer = (number, False, RuntimeError(repr(error)))
        self._send(agent, answer)

    def _to_agents(self, call: Any) -> None:
        if self.is_cut or self.is_mute:
            if call[2] == "port_update":
                with self._losing:
                    self._lost.append(repr(call))
                    self._losing.notify_all()
            return
        with self._lock:
            agents = list(self._agents)
        for agent in agents:
            self._send(agent, (None, True, call))

    def _send(self, agent: Connection, message: Any) -> None:
        with self._lock:
            with contextlib.suppress(OSError):  # it was killed
                agent.send(message)


def _connect(path: str) -> Connection:
    """Agent and server may start at the same time."""
    end = time.monotonic() + CONNECT_S
    while True:
        try:
            return Client(path, "AF_UNIX")
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class AgentEnd:
    """In an agent's process: start() once it is the process that it will be."""

    def __init__(self, path: str) -> None:
        self._server = _connect(path)
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        for topic, namespace in ((topics.PLUGIN, None), (topics.REPORTS, RPC_NAMESPACE_STATE)):
            consumers = rpc.Connection()
            forward = Forward(self._to_server, topic, namespace)
            consumers.create_consumer(topic, [forward], fanout=False)
            consumers.consume_in_threads()
        threading.Thread(target=self._receive, daemon=True).start()

    def _to_server(self, call: Any) -> Any:
        future: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = future
            self._server.send((number, call))
        return future.result(PATIENCE_S)

    def _receive(self) -> None:
        while True:
            number, good, value = self._server.recv()
            if number is None:
                topic, namespace, method, context, kwargs = value
                client = _client(topic, namespace).prepare(fanout=True)
                client.cast(neutron_context.Context.from_dict(context), method, **kwargs)
                continue
            future = self._waiting.pop(number)
            if good:
                future.set_result(value)
            else:
                future.set_exception(value)
