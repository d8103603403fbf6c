# SPDX-License-Identifier: Apache-2.0
"""The frame format: whatever the bytes are, there is a message or a named error."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch.api import wire
from vif_uswitch.exceptions import InvalidInput, ProtocolError, rebuild

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
IDS = st.integers(-(2**63), 2**64 - 1) | st.text(max_size=wire.ID_MAX)


@given(IDS, st.text(), st.dictionaries(st.text(), JSON, max_size=5))
def test_requests_come_out_as_they_went_in(
    id_: wire.Id, method: str, params: dict[str, Any]
) -> None:
    line = wire.request(id_, method, params)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert wire.decode_request(line) == wire.Request(id_, method, params)


@given(IDS, JSON)
def test_results_come_out_as_they_went_in(id_: wire.Id, value: Any) -> None:
    reply = wire.decode_reply(wire.result(id_, value))
    assert (reply["id"], reply["result"]) == (id_, value)


@given(IDS | st.none(), st.text(), st.text(), st.text(), st.text())
def test_errors_come_out_as_they_went_in(
    id_: wire.Id | None, what: str, value: str, why: str, todo: str
) -> None:
    error = InvalidInput(what, value, why, todo)
    reply = wire.decode_reply(wire.error(id_, error))
    failure = reply["error"]
    again = rebuild(failure["code"], failure["message"], failure["data"])
    assert type(again) is InvalidInput and str(again) == str(error)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_bad_request(line: bytes) -> None:
    try:
        wire.decode_request(line)
    except wire.BadRequest as bad:
        assert wire.decode_reply(wire.error(bad.id, bad.error))["error"]["code"] in (-32600, -32700)


@given(JSON)
def test_any_json_is_a_request_or_a_bad_request(value: Any) -> None:
    try:
        wire.decode_request(json.dumps(value).encode())
    except wire.BadRequest as bad:
        wire.error(bad.id, bad.error)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_reply_or_a_protocol_error(line: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        wire.decode_reply(line)


@pytest.mark.parametrize(
    "reply",
    [
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "result": 1, "error": {"code": 1, "message": ""}},
        {"jsonrpc": "2.0", "id": 1, "error": None},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": "x", "message": ""}},
        {"id": 1, "result": 1},
        [1],
    ],
)
def test_malformed_replies(reply: object) -> None:
    with pytest.raises(ProtocolError):
        wire.decode_reply(json.dumps(reply).encode())


def test_a_message_longer_than_a_line_is_not_made() -> None:
    wire.result(1, "x" * (wire.MAX_LINE - 40))
    with pytest.raises(ProtocolError, match="65536"):
        wire.result(1, "x" * wire.MAX_LINE)


def test_id_of_a_bad_request_is_kept_if_it_can_be_read() -> None:
    with pytest.raises(wire.BadRequest) as caught:
        wire.decode_request(b'{"jsonrpc":"2.0","id":"seven","method":7}')
    assert caught.value.id == "seven"


@pytest.mark.parametrize("module", ["vif_uswitch.client", "vif_uswitch.cmd.uswitchctl"])
def test_client_side_needs_the_standard_library_only(module: str) -> None:
    """It imports where nothing of PyPI can be imported at all."""
    code = (
        "import sys\n"
        "sys.path = [p for p in sys.path if 'packages' not in p] + [sys.argv[1]]\n"
        f"import {module}\n"
        "bad = {'msgspec', 'oslo_config', 'cffi', '_cffi_backend'} & set(sys.modules)\n"
        "bad |= {m for m in sys.modules if m.startswith(('vif_uswitch.daemon', "
        "'vif_uswitch.dataplane', 'vif_uswitch.api.types'))}\n"
        "sys.exit(f'imports {bad}' if bad else 0)\n"
    )
    top = str(wire.__file__).rsplit("/vif_uswitch/", 1)[0]
    subprocess.run([sys.executable, "-I", "-S", "-c", code, top], check=True)
