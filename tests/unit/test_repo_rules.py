# SPDX-License-Identifier: Apache-2.0
"""Rules of CONTRIBUTING.rst about the repository as a whole: heads, sizes, drift, C calls."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
LICENCE = "SPDX-License-Identifier: Apache-2.0"
MAX_LINES = 600
SOURCE_SUFFIXES = {".py", ".c", ".h", ".sh", ".toml", ".service", ".rules", ".mk"}
SOURCE_NAMES = {"Makefile", "tox.ini"}
# A corpus is bytes that a fuzzer found.
NOT_OURS = {".git", ".venv", ".tox", "build", "dist", "__pycache__", ".hypothesis", "corpus"}

# What ends the process.  static_assert is another word for the regular expression.
DEADLY_CALL = re.compile(r"\b(assert|abort|exit|_exit|_Exit|quick_exit|errx?|__builtin_trap)\s*\(")
# Reading its arguments, before there is any peer, the program may give up.
MAY_EXIT = {"main.c": {"exit", "_exit"}}

_C_TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def sources() -> list[pathlib.Path]:
    """Every source file of the project, tracked or not yet."""
    found = []
    for directory, names, files in os.walk(TOP):
        names[:] = [name for name in names
                    if name not in NOT_OURS and not name.endswith((".egg-info", "_cache"))
                    and not (pathlib.Path(directory, name) / "pyvenv.cfg").exists()]
        for name in files:
            path = pathlib.Path(directory, name)
            if path.suffix in SOURCE_SUFFIXES or name in SOURCE_NAMES or is_script(path):
                found.append(path)
    return found


def is_script(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return not path.suffix and file.read(2) == b"#!"


def has_licence(text: str) -> bool:
    return any(LICENCE in line for line in text.splitlines()[:4])


def deadly_calls(text: str) -> set[str]:
    """Calls in C code that end the process; comments and strings do not count."""
    code = _C_TOKENS.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    return {found.group(1) for found in DEADLY_CALL.finditer(code)}


def test_every_source_names_its_licence() -> None:
    found = sources()
    assert TOP / "setup.py" in found and TOP / "Makefile" in found
    assert not [path for path in found if not has_licence(path.read_text(encoding="utf-8"))]


def test_no_file_is_longer_than_a_concept() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert not {path: lines for path, lines in lengths.items() if lines > MAX_LINES}


def test_nothing_in_the_dataplane_ends_the_process() -> None:
    offenders = {}
    for path in sources():
        if path.suffix in {".c", ".h"} and path.is_relative_to(TOP / "dataplane"):
            name = path.relative_to(TOP / "dataplane").as_posix()
            calls = deadly_calls(path.read_text(encoding="utf-8")) - MAY_EXIT.get(name, set())
            if calls:
                offenders[name] = sorted(calls)
    assert not offenders


@pytest.mark.parametrize(("text", "calls"), [
    ("assert(x);", {"assert"}),
    ("  abort ();", {"abort"}),
    ("if (x)\n\texit(1);", {"exit"}),
    ('err(1, "x");', {"err"}),
    ("static_assert(sizeof(int) == 4, \"abort()\");", set()),
    ("_Static_assert(1, \"\");", set()),
    ("/* exit(1) */ // abort()\nlog(\"assert(x)\"); on_exit(f); port_exit(p);", set()),
    ('c = \'"\'; abort(); d = \'"\';', {"abort"}),
])
def test_deadly_calls_are_seen(text: str, calls: set[str]) -> None:
    assert deadly_calls(text) == calls


def test_a_missing_licence_is_seen() -> None:
    assert has_licence(f"#!/bin/sh\n# {LICENCE}\n")
    assert not has_licence("#!/bin/sh\n# Copyright\n")
    assert not has_licence("\n" * 10 + f"# {LICENCE}\n")


@pytest.mark.parametrize("generator", sorted(TOP.glob("etc/*-config-generator.conf")),
                         ids=lambda path: path.name)  # fmt: skip
def test_sample_configurations_are_current(
    generator: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """"make genconfig" would change nothing."""
    fresh = tmp_path / "sample"
    subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "oslo-config-generator"),
         "--config-file", str(generator), "--output-file", str(fresh)],
        cwd=TOP, check=True,
    )
    parser = configparser.ConfigParser()
    parser.read(generator, encoding="utf-8")
    kept = TOP / parser["DEFAULT"]["output_file"]
    assert kept.read_text(encoding="utf-8") == fresh.read_text(encoding="utf-8"), "make genconfig"


def test_every_sample_is_generated() -> None:
    texts = "".join(path.read_text() for path in TOP.glob("etc/*-config-generator.conf"))
    assert all(f"etc/{path.name}\n" in texts for path in TOP.glob("etc/*.conf.sample"))


def test_published_schema_is_current() -> None:
    """"make genconfig" would change nothing here either."""
    fresh = subprocess.run(
        [sys.executable, "-m", "vif_uswitch.api.schema"],
        cwd=TOP, check=True, capture_output=True, text=True,
    ).stdout
    kept = TOP / "vif_uswitch/api/schema.json"
    assert kept.read_text(encoding="utf-8") == fresh, "make genconfig"


def requirements(path: str) -> list[str]:
    lines = (TOP / path).read_text(encoding="utf-8").splitlines()
    return sorted(line for line in lines if line and not line.startswith("#"))


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(TOP / "setup.cfg", encoding="utf-8")
    return parser


@pytest.mark.parametrize(("extra", "path"), [
    ("test", "test-requirements.txt"), ("docs", "doc/requirements.txt"),
])
def test_extras_equal_the_requirement_files(extra: str, path: str) -> None:
    assert sorted(setup_cfg()["extras"][extra].split()) == requirements(path)


def test_entry_points_exist() -> None:
    section = setup_cfg()["entry_points"]
    targets = [line.split("=")[1].strip()
               for group in section.values() for line in group.strip().splitlines()]
    assert "vif_uswitch.daemon.main:main" in targets
    for target in targets:
        module, _, name = target.partition(":")
        if module.startswith("vif_uswitch.ml2."):  # needs Neutron, which is not here
            assert name in top_level_names(module), target
        else:
            assert callable(getattr(importlib.import_module(module), name)), target


def top_level_names(module: str) -> set[str]:
    """Functions and classes of a module of ours that cannot be imported here."""
    tree = ast.parse((TOP / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
