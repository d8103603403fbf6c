# SPDX-License-Identifier: Apache-2.0
"""What uswitchd says of itself, asked at most once for each question, and never fatal.

What it answers is its own, but a check must not fall over a daemon of another
version: members are taken with defaults.
"""

from __future__ import annotations

from typing import Any, Protocol

from vif_uswitch.exceptions import USwitchError

Json = dict[str, Any]
DEFAULT_RUN_DIR = "/run/uswitch"


class Asked(Protocol):
    """The part of ``Client`` that is used."""

    @property
    def path(self) -> str: ...
    def show(self) -> Json: ...
    def port_list(self) -> list[Json]: ...
    def port_show(self, name: str) -> Json: ...
    def uplink_list(self) -> list[Json]: ...


class Switch:
    """``error``: why uswitchd does not answer, once that is known."""

    def __init__(self, client: Asked) -> None:
        self._client = client
        self.error: USwitchError | None = None
        self._show: Json | None = None
        self._ports: list[Json] | None = None
        self._uplinks: list[Json] | None = None

    @property
    def control_socket(self) -> str:
        return self._client.path

    def show(self) -> Json | None:
        if self._show is None:
            self._show = self._ask(self._client.show)
        return self._show

    def ports(self) -> list[Json] | None:
        if self._ports is None:
            answer = self._ask(self._client.port_list)
            self._ports = None if answer is None else [one for one in answer
                                                       if isinstance(one, dict)]
        return self._ports

    def uplinks(self) -> list[Json] | None:
        if self._uplinks is None:
            answer = self._ask(self._client.uplink_list)
            self._uplinks = None if answer is None else [
                one for one in answer
                if isinstance(one, dict) and isinstance(one.get("port"), dict)
            ]
        return self._uplinks

    def memory_of(self, port: str) -> int:
        """Bytes of guest memory that a port has mapped; 0 if it cannot be told."""
        if self.error is not None:
            return 0
        try:
            return int(self._client.port_show(port).get("memory_bytes", 0))
        except USwitchError:  # deleted since it was listed
            return 0

    def daemon(self) -> Json:
        answer = (self.show() or {}).get("daemon")
        return answer if isinstance(answer, dict) else {}

    def dataplane(self) -> Json:
        answer = (self.show() or {}).get("dataplane")
        return answer if isinstance(answer, dict) else {}

    def vhost_socket_dir(self) -> str:
        """What it says, else the default."""
        return str(self.daemon().get("vhost_socket_dir") or f"{DEFAULT_RUN_DIR}/vhost")

    def _ask(self, question: Any) -> Any:
        if self.error is not None:
            return None
        try:
            return question()
        except USwitchError as error:
            self.error = error
            return None
