# SPDX-License-Identifier: Apache-2.0
"""An OpenStack API behind the standard library's HTTP server.

    python -m tests.e2e.cloud.wsgi MODULE PORT

Neutron's RPC listeners are in the same process: it has programs of their own for those, and a small
cloud saves the memory of two.
"""

from __future__ import annotations

import importlib
import socketserver
import sys
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tests.e2e.cloud import settings


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True
    request_queue_size = 64


class Handler(WSGIRequestHandler):
    """Without a name look-up and a line for each request: the services log for themselves."""

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:
        pass


def rpc_listeners() -> list[Any]:
    """What neutron-rpc-server would run, for all plugins that have some."""
    from neutron_lib.plugins import directory

    servers: list[Any] = []
    for plugin in directory.get_unique_plugins():
        for start in ("start_rpc_listeners", "start_rpc_state_reports_listener"):
            if hasattr(plugin, start):
                try:
                    servers += getattr(plugin, start)() or []
                except NotImplementedError:
                    continue
    return servers


def main() -> None:
    """Serve until killed."""
    module, port = sys.argv[1], int(sys.argv[2])
    sys.argv = [module.split(".")[0] + "-api"]  # the services parse it
    application = importlib.import_module(module).application
    kept = rpc_listeners() if module.startswith("neutron") else []
    with make_server(settings.CONTROLLER, port, application, Server, Handler) as server:
        server.serve_forever()
    del kept


if __name__ == "__main__":
    main()
