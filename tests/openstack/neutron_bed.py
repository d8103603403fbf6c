# SPDX-License-Identifier: Apache-2.0
"""Neutron as the tests see it: its API, its agents' processes, and a Nova that only listens."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from testbed.daemons import Switch

Json = dict[str, Any]
TOP = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
AGENT_DOWN_S = 5
NOVAS = ("create_port_binding", "delete_port_binding", "activate")
"""Calls that only a service may make, by default."""
AGENT_TYPE = "Userspace switch agent"
COMPARE = "USWITCH_COMPARE_PASSES"
"""In the environment of an agent: after how many passes to look for what was lost."""
VLANS = "physnet1:100:199,physnet2:100:199"  # nobody has an uplink to physnet2


def until(
    condition: Callable[[], object], what: str, timeout: float = PATIENCE_S, pause: float = 0.05
) -> None:
    """Wait for something that must become true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout:g} s in vain: {what}"
        time.sleep(pause)


def write_ini(path: Path, sections: dict[str, dict[str, object]]) -> Path:
    parser = configparser.ConfigParser(interpolation=None)
    for section, values in sections.items():
        parser[section] = {key: str(value) for key, value in values.items()}
    with path.open("w") as stream:
        parser.write(stream)
    return path


class Refused(Exception):
    """The API's answer was no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class ListeningNova:
    """Takes the events that Neutron sends to Nova."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.95",
                                          "min_version": "2.1", "links": []}})  # fmt: skip

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.events += body["events"]
                self._answer({"events": [{**event, "code": 200} for event in body["events"]]})

            def _answer(self, body: Json) -> None:
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v2.1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def plugged(self, port_id: str) -> int:
        """How often Nova was told that this port is plugged."""
        return sum(event["name"] == "network-vif-plugged" and event["tag"] == port_id
                   for event in self.events)  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Neutron:
    """neutron-server, and its API."""

    def __init__(
        self, directory: Path, nova: ListeningNova, *, agent_down_s: int = AGENT_DOWN_S,
        **server_options: object,
    ) -> None:  # fmt: skip
        """``server_options``: of our mechanism driver."""
        self.directory = directory
        self._agent_down_s = agent_down_s
        self.relay = directory / "relay.sock"
        self.log = directory / "neutron-server.log"
        self._made: list[str] = []
        write_ini(directory / "neutron.conf", self._configuration(nova, server_options))
        (directory / "policy.yaml").write_text(json.dumps(dict.fromkeys(NOVAS, "")))
        with (directory / "neutron-server.out").open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.openstack.neutron_server", str(directory)],
                cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> None:
        """Until it serves its API."""
        self._url = f"http://127.0.0.1:{self._line()}/v2.0"

    def _configuration(self, nova: ListeningNova, options: Json) -> dict[str, Json]:
        top = Path(sys.prefix)
        found = [path / "etc/neutron/api-paste.ini" for path in (top, *map(Path, sys.path))]
        found += [path.parents[2] / "etc/neutron/api-paste.ini" for path in map(Path, sys.path)
                  if len(path.parents) > 2]  # fmt: skip
        paste = next(path for path in found if path.exists())
        return {
            "DEFAULT": {
                "auth_strategy": "noauth", "core_plugin": "ml2", "service_plugins": "",
                "transport_url": "fake:/", "state_path": self.directory, "log_file": self.log,
                "api_paste_config": paste, "agent_down_time": self._agent_down_s,
                "send_events_interval": 1, "dhcp_agent_notification": False,
                "rpc_response_timeout": 60,
            },
            "nova": {"auth_type": "admin_token", "endpoint": nova.url, "token": "x"},
            "oslo_policy": {"policy_file": self.directory / "policy.yaml"},
            "database": {"connection": f"sqlite:///{self.directory}/neutron.sqlite",
                         "sqlite_synchronous": False},
            "oslo_concurrency": {"lock_path": self.directory / "lock"},
            "ml2": {
                "type_drivers": "flat,vlan,local", "tenant_network_types": "vlan",
                "mechanism_drivers": "uswitch", "extension_drivers": "port_security",
            },
            "ml2_type_vlan": {"network_vlan_ranges": VLANS},
            "ml2_type_flat": {"flat_networks": "*"},
            "ml2_uswitch": options,
        }  # fmt: skip

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, (self.directory / "neutron-server.out").read_text()[-4000:]
        return line

    def cut(self, is_cut: bool) -> None:
        """Every message to and from agents is lost from now on, or no more."""
        self._tell(cut=is_cut)

    def mute(self, is_mute: bool) -> None:
        """Nothing that is announced to agents arrives from now on, or all does again."""
        self._tell(mute=is_mute)

    def wait_lost(self, *words: str) -> None:
        """Until an announcement of a port with all these words was lost, since it went away."""
        self._tell(lost=words)

    def heartbeat(self, host: str, **configurations: object) -> None:
        """What an agent of ours on that host would report."""
        self._tell(report={
            "binary": "neutron-uswitch-agent", "agent_type": AGENT_TYPE, "host": host,
            "topic": "N/A", "configurations": configurations, "start_flag": True,
        })  # fmt: skip

    def nova_plug(self, choice: str) -> None:
        """For ports that are bound from now on."""
        self._tell(nova_plug=choice)

    def _tell(self, **commands: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(commands) + "\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    # ---- the API ----

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        headers = {"Content-Type": "application/json", "X-Project-Id": "p1", "X-Roles": "admin"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                result: Json = json.loads(answer.read() or b"{}")
                return result
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode()) from None

    def make(self, kind: str, **values: Any) -> Json:
        """A network or port; keys with "__" for ":"."""
        values = {key.replace("__", ":"): value for key, value in values.items()}
        made: Json = self.call("POST", f"/{kind}s", {kind: {"project_id": "p1", **values}})[kind]
        self._made.append(f"/{kind}s/{made['id']}")
        return made

    def change(self, kind: str, ident: str, **values: Any) -> Json:
        values = {key.replace("__", ":"): value for key, value in values.items()}
        changed: Json = self.call("PUT", f"/{kind}s/{ident}", {kind: values})[kind]
        return changed

    def delete(self, kind: str, ident: str) -> None:
        self.call("DELETE", f"/{kind}s/{ident}")

    def forget(self, but: set[str]) -> None:
        """Delete all that was made, the newest first; subnets go with their networks."""
        for path in reversed(self._made):
            if path.rpartition("/")[2] not in but:
                with contextlib.suppress(Refused):
                    self.call("DELETE", path)
        self._made.clear()

    def port(self, port_id: str) -> Json:
        port: Json = self.call("GET", f"/ports/{port_id}")["port"]
        return port

    def status(self, port_id: str) -> str:
        return str(self.port(port_id)["status"])

    def wait_status(self, port_id: str, status: str) -> None:
        # Asked seldom: neutron-server has better to do.
        until(lambda: self.status(port_id) == status, f"port {port_id} is {status}", pause=0.2)

    def agent(self, host: str) -> Json | None:
        agents = self.call("GET", f"/agents?host={host}")["agents"]
        return agents[0] if agents else None

    def is_alive(self, host: str) -> bool:
        agent = self.agent(host)
        return agent is not None and bool(agent["alive"])

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()


class Agent:
    """neutron-uswitch-agent of one host, as an ordinary user would run it."""

    def __init__(self, neutron: Neutron, switch: Switch, host: str, **options: object) -> None:
        self.neutron, self.host = neutron, host
        directory = neutron.directory / host
        directory.mkdir(exist_ok=True)
        self.log = directory / "agent.log"
        self._config = write_ini(directory / "agent.conf", {
            "DEFAULT": {"host": host, "transport_url": "fake:/", "state_path": directory,
                        "log_file": self.log, "rpc_response_timeout": 60},
            "oslo_concurrency": {"lock_path": directory / "lock"},
            "agent": {"report_interval": 2, "quitting_rpc_timeout": 5},
            "uswitch": {"control_socket": switch.control, "timeout": 5, **options},
        })  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, wait: bool = True) -> Agent:
        with (self._config.parent / "agent.out").open("a") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.openstack.neutron_agent", str(self.neutron.relay),
                 "--config-file", str(self._config)],
                cwd=TOP, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        if wait:
            seen = self.starts()
            until(lambda: self.starts() > seen, f"the agent of {self.host} has started")
            until(lambda: self.neutron.is_alive(self.host), f"{self.host} reports", pause=0.2)
        return self

    def starts(self) -> int:
        return self.text().count("Userspace switch agent started")

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def lost_heartbeats(self) -> int:
        """How many, since the first start."""
        return self.text().count("Failed reporting state")

    def tracebacks(self) -> list[str]:
        """Of ours; Neutron's own agent logs one whenever a heartbeat gets no answer in time."""
        return re.findall(r"ERROR vif_uswitch\S* .*Traceback.*", self.text())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, parent and child at once."""
        os.killpg(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
