# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of what an operator reads.

Two tables are made from the code itself when the documents are built, so that
they cannot drift: the drop and break reasons (dataplane/drop.h) and the
configuration options (vif_uswitch.conf).
"""

import re
from importlib import metadata
from pathlib import Path

from vif_uswitch import conf as options

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

project = "vif-uswitch"
author = "The vif-uswitch developers"
project_copyright = "The vif-uswitch developers, Apache-2.0"
try:
    release = metadata.version("vif-uswitch")
except metadata.PackageNotFoundError:  # docs alone, product not installed
    release = "unreleased"
version = release

extensions: list[str] = []
root_doc = "index"
exclude_patterns: list[str] = ["_*.rst"]
html_theme = "alabaster"
html_theme_options = {"description": "A packet switch for virtual machines", "page_width": "1040px"}
html_show_sourcelink = False
nitpicky = True


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _reasons() -> None:
    """_drops.rst and _breaks.rst from the X-macro lists."""
    text = (ROOT / "dataplane" / "drop.h").read_text()
    drops = re.findall(r'X\((\w+), (IN|OUT), "([^"]+)"\)', text)
    breaks = re.findall(r'X\((\w+), "([^"]+)"\)', text)
    if not drops or not breaks:
        raise RuntimeError("no reasons found in dataplane/drop.h")
    rows = [(f"``{n}``", side.lower(), meaning) for n, side, meaning in drops if n != "none"]
    (HERE / "_drops.rst").write_text(_table(("reason", "counted", "meaning"), rows))
    rows = [(f"``{n}``", meaning) for n, meaning in breaks if n != "none"]
    (HERE / "_breaks.rst").write_text(_table(("reason", "meaning"), rows))


def _options() -> None:
    """_options.rst from the declared options."""
    parts = []
    for group, opts in options.list_opts():
        rows = []
        for opt in opts:
            default = "" if opt.default in (None, "", []) else f"``{opt.default}``"
            rows.append((f"``{opt.name}``", default, str(opt.help)))
        parts.append(f"``[{group or 'DEFAULT'}]``\n\n" + _table(("option", "default", ""), rows))
    (HERE / "_options.rst").write_text("\n".join(parts))


_reasons()
_options()
