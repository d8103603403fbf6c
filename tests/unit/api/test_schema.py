# SPDX-License-Identifier: Apache-2.0
"""The published schema is valid, says the same as the types, and fits in one answer."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch.api import schema, types, wire
from vif_uswitch.api.catalogue import CATALOGUE

PUBLISHED = schema.catalogue()


def test_it_is_a_schema_and_names_every_method() -> None:
    jsonschema.Draft202012Validator.check_schema(PUBLISHED["$defs"])
    assert list(PUBLISHED["methods"]) == list(CATALOGUE)
    assert set(CATALOGUE) == set(wire.METHODS)
    assert len(wire.result(1, {"catalogue": PUBLISHED})) < wire.MAX_LINE


def test_every_reference_leads_somewhere() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [ref for value in node.values() for ref in references(value)]
        if isinstance(node, list):
            return [ref for value in node for ref in references(value)]
        return []

    for ref in references(PUBLISHED):
        assert ref.startswith("#/$defs/") and ref.split("/")[2] in PUBLISHED["$defs"]


NAMES = st.sampled_from(["vm1", "a b", "", "x" * 64, "x" * 65, "-x", "a\n", "_.-", "\u00e9"])
SPECS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "type": st.sampled_from(["vhost-user", "tap", "nic"]),
        "mode": st.sampled_from(["server", "client", ""]),
        "segment": NAMES | st.none(),
        "mtu": st.integers(60, 70) | st.integers(65515, 65530) | st.none() | st.just("1500"),
        "macs": st.lists(
            st.sampled_from(["52:54:00:00:00:01", "52:54:00", "g" * 17, 5]), max_size=3
        ),
        "trunk": st.lists(
            st.fixed_dictionaries({"vid": st.integers(-1, 2) | st.integers(4090, 4099)},
                                  optional={"segment": NAMES}), max_size=2,
        ),
        "ifname": st.sampled_from(["", "tap0", "a/b", "x" * 15, "x" * 16]),
        "admin_up": st.sampled_from([True, False, 1, None]),
        "extra": st.just(1),
    },
)  # fmt: skip


@given(SPECS)
def test_schema_and_types_agree(spec: dict[str, Any]) -> None:
    """What one accepts, the other accepts."""
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/$defs/PortAdd", "$defs": PUBLISHED["$defs"]}
    )
    try:
        msgspec.convert({"port": spec}, types.PortAdd)
        accepted = True
    except msgspec.ValidationError:
        accepted = False
    assert validator.is_valid({"port": spec}) == accepted


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (["port", "mtu"], "65521"),
        (["port", "trunk", "[]", "vid"], "1 to 4094"),
        (["port", "type"], "One of: tap, vhost-user."),
        (["port", "nothing"], ""),
        (["create_segments"], ""),
    ],
)
def test_explain(path: list[str], text: str) -> None:
    assert text in schema.explain("v1.port.add", path)


def test_members() -> None:
    assert "mtu" in schema.members("v1.port.add", ["port"])
    assert schema.members("v1.port.add", ["port", "trunk", "[]"]) == ["vid", "segment"]
    assert schema.members("v1.version", []) == []
