# SPDX-License-Identifier: Apache-2.0
"""neutron-server in one process: API, RPC, ML2 with our driver, on sqlite.  A program.

    neutron_server.py DIRECTORY      neutron.conf is there; the API's port is printed

Neutron has its options in one global object, as Nova has: each needs a process
of its own.  Standard input has a command a line, as a JSON object: {"cut": true
or false}, {"mute": true or false}, {"lost": WORDS} (the relay, see there), {"report": STATE} (an
agent's heartbeat, of a host that need not be there), {"nova_plug": ...} (our driver's option).
Each is answered by a line; the end of them ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class ApiServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Neutron logs its requests itself."""


def one_at_a_time(application: Any) -> Any:
    """Requests and RPC take turns: sqlite lets one transaction write, and refuses the others."""
    from oslo_messaging.rpc.dispatcher import RPCDispatcher

    turn = threading.RLock()
    dispatch = RPCDispatcher.dispatch

    def dispatch_in_turn(self: Any, incoming: Any) -> Any:
        with turn:
            return dispatch(self, incoming)

    def answer_in_turn(environ: Any, start_response: Any) -> Any:
        with turn:
            return list(application(environ, start_response))

    RPCDispatcher.dispatch = dispatch_in_turn
    return answer_in_turn


def make_tables(directory: Path) -> None:
    """Without the migrations, which sqlite cannot do."""
    import sqlalchemy
    from neutron.db.migration.models import head

    engine = sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.sqlite")
    head.get_metadata().create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()


def report(state: dict[str, Any]) -> None:
    from neutron_lib import context
    from neutron_lib.agent import topics

    from tests.openstack.neutron_relay import state_client

    state_client(topics.REPORTS).call(
        context.get_admin_context(), "report_state", agent_state={"agent_state": state},
        time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f"),
    )  # fmt: skip


def main(directory: Path) -> None:
    os.environ["OS_NEUTRON_CONFIG_DIR"] = str(directory)
    os.environ["OS_NEUTRON_CONFIG_FILES"] = "neutron.conf"
    sys.argv = ["neutron-api"]
    make_tables(directory)
    from neutron.wsgi.api import application
    from neutron_lib.plugins import directory as plugins

    plugin = plugins.get_plugin()
    plugin.start_rpc_listeners()
    plugin.start_rpc_state_reports_listener()
    from tests.openstack.neutron_relay import ServerEnd

    relay = ServerEnd(str(directory / "relay.sock"))
    server = make_server("127.0.0.1", 0, one_at_a_time(application), ApiServer, Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    driver = plugin.mechanism_manager.mech_drivers["uswitch"].obj
    commands: dict[str, Callable[[Any], object]] = {
        "cut": relay.cut,
        "mute": relay.mute,
        "lost": relay.wait_lost,
        "report": report,
        "nova_plug": lambda value: setattr(driver, "nova_plug", value),
    }
    for line in sys.stdin:
        for command, value in json.loads(line).items():
            commands[command](value)
        print("done", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
