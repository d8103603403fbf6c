# SPDX-License-Identifier: Apache-2.0
"""etc/libvirt/uswitch-domain.rng says what the hook and uswitchd take, and xmllint can read it."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from vif_uswitch.domain import tree
from vif_uswitch.domain.settings import ports_element
from vif_uswitch.hooks import port_xml, xml_tree
from vif_uswitch.hooks.domain_xml import Allowed, PortSettings, TrunkRow

TOP = Path(__file__).resolve().parents[3]
SCHEMA = TOP / "etc/libvirt/uswitch-domain.rng"
RNG = "{http://relaxng.org/ns/structure/1.0}"
MAC = "52:54:00:aa:bb:01"
NOT_IN_METADATA = {"macs", "queues", "external_ids", "trunk", "guard", "admin_up"}
"""Members of PortChanges that are no attributes: libvirt's own, elements, and admin."""

needs_xmllint = pytest.mark.skipif(
    shutil.which("xmllint") is None, reason="xmllint is not installed (bindep.txt)"
)


def valid(metadata: str, tmp_path: Path) -> bool:
    path = tmp_path / "ports.xml"
    path.write_text(metadata)
    done = subprocess.run(
        ["xmllint", "--noout", "--nonet", "--relaxng", SCHEMA, path],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr  # 3: not valid; all others: it cannot say
    return done.returncode == 0


def entry(attributes: str = "", inner: str = "", mac: str = MAC) -> str:
    return (f"<uswitch:ports xmlns:uswitch='{port_xml.NAMESPACE}'><uswitch:port mac='{mac}'"
            f" {attributes}>{inner}</uswitch:port></uswitch:ports>")


GOOD = [
    f"<ports xmlns='{port_xml.NAMESPACE}'/>",
    entry(),
    entry("segment='blue' description='' admin='up' mtu='68'", mac=MAC.upper()),
    entry("segment=''"),
    entry("flood-rate='4294967295' flood-burst='0' fdb-quota='5242880' max-kbps='2147483647'"
          " max-burst-kbps='1' max-kpps='1' max-burst-kpps='1'"),
    entry(inner=f"<uswitch:allow mac='{MAC}'/><uswitch:trunk vid='1' segment='a.b-c_D'/>"
                f"<uswitch:allow mac='{MAC}' ip='fd00::/64'/><uswitch:guard/>"),
    entry(inner="<uswitch:trunk vid='4094' segment='x'/><uswitch:trunk vid='2' segment='y'/>"),
]
BAD = [
    f"<other xmlns='{port_xml.NAMESPACE}'/>",
    "<ports><port mac='52:54:00:aa:bb:01'/></ports>",
    entry(mac="52:54:00:aa:bb"),
    entry("segmnt='blue'"),
    entry("segment='no name'"),
    entry("mtu='67'"),
    entry("mtu=' 1500'"),
    entry("mtu='+1500'"),
    entry("max-kbps='2147483648'"),
    entry("max_kbps='1'"),
    entry("admin='yes'"),
    entry("queues='2'"),
    entry(inner="text"),
    entry(inner="<uswitch:trunk vid='4095' segment='x'/>"),
    entry(inner="<uswitch:trunk vid='4'/>"),
    entry(inner="<uswitch:allow ip='10.0.0.1'/>"),
    entry(inner="<uswitch:guard mac='x'/>"),
    entry(inner="<uswitch:tunnel/>"),
]


@needs_xmllint
@pytest.mark.parametrize("metadata", GOOD)
def test_what_is_right_is_valid(metadata: str, tmp_path: Path) -> None:
    assert valid(metadata, tmp_path)
    assert port_xml.read_ports(xml_tree.parse(f"<metadata>{metadata}</metadata>"))[1] == {}


@needs_xmllint
@pytest.mark.parametrize("metadata", BAD)
def test_what_is_wrong_is_not(metadata: str, tmp_path: Path) -> None:
    assert not valid(metadata, tmp_path)


@needs_xmllint
def test_what_we_write_is_valid(tmp_path: Path) -> None:
    settings = PortSettings(
        MAC, segment="blue", mtu=1500, flood_rate=1, flood_burst=2, fdb_quota=3, max_kbps=4,
        max_burst_kbps=5, max_kpps=6, max_burst_kpps=7, admin_up=False, description="ö<",
        trunk=(TrunkRow(5, "red"),), guard=(Allowed(MAC), Allowed(MAC, "10.0.0.0/24")),
    )
    other = PortSettings("52:54:00:aa:bb:02", guard=())
    ports = ports_element({each.mac: each for each in (settings, other)}, prefix=port_xml.PREFIX)
    assert ports is not None and valid(tree.written(ports), tmp_path)


def attributes(define: str) -> dict[str, ET.Element]:
    root = ET.parse(SCHEMA).getroot()
    (found,) = [each for each in root.findall(f"{RNG}define") if each.get("name") == define]
    return {each.get("name", ""): each for each in found.iter(f"{RNG}attribute")}


def test_attributes_are_the_members_of_the_api() -> None:
    members = {name.replace("_", "-") for name in (*port_xml.NUMBERS, *port_xml.TEXTS)}
    assert set(attributes("settings")) == members | {"admin"}
    from vif_uswitch.api.types import PortChanges

    wanted = set(PortChanges.__struct_fields__) - NOT_IN_METADATA
    assert {name.replace("-", "_") for name in members} == wanted


def test_limits_are_those_of_the_api() -> None:
    """The published schema of the API has them; this one repeats them for editors."""
    from msgspec import json as msgspec_json

    from vif_uswitch.api.types import PortChanges

    properties = msgspec_json.schema(PortChanges)["$defs"]["PortChanges"]["properties"]
    defines = {each.get("name"): each for each in ET.parse(SCHEMA).iter(f"{RNG}define")}
    for name, element in attributes("settings").items():
        member = name.replace("-", "_")
        if member not in port_xml.NUMBERS:
            continue
        refs = [defines[ref.get("name")] for ref in element.iter(f"{RNG}ref")]
        params = {param.get("name"): param.text for each in [element, *refs]
                  for param in each.iter(f"{RNG}param")}
        (number,) = [each for each in properties[member]["anyOf"] if each["type"] == "integer"]
        assert int(params.get("minInclusive") or 0) == number["minimum"], name
        assert int(params.get("maxInclusive") or 2**32 - 1) == number["maximum"], name
