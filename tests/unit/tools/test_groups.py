# SPDX-License-Identifier: Apache-2.0
"""tests/functional/groups.py: who runs beside whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.functional.groups import GUESTS, group
from tools.seeded import TOP

MODULES = sorted((TOP / "tests" / "functional").glob("test_*.py"))
BEDS = {"libvirt_bed", "libvirt_pair", "session_bed", "doc_bed_libvirt"}
"""Rooms of tests/functional in which guests boot."""


def imported(module: Path) -> set[str]:
    """The last part of every name that a module imports, or imports from."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            found |= {name.rpartition(".")[2] for name in names}
    return found


def test_who_uses_a_bed_of_guests_is_in_their_group() -> None:
    users = {path.stem: group(path) for path in MODULES if BEDS & imported(path)}
    assert users == dict.fromkeys(users, GUESTS)
    assert {"test_libvirt_hook", "test_libvirt_migration", "test_doc_shell"} <= set(users)


def test_modules_with_guests_are_one_group() -> None:
    """Those whose every test has one, and no others."""
    names = {path.stem for path in MODULES if group(path) == GUESTS}
    assert {"test_guests", "test_guests_life", "test_guests_mq", "test_migration"} <= names
    assert not {"test_tap", "test_hugepages", "test_doctor", "test_forwarding"} & names


def test_every_other_module_is_its_own() -> None:
    others = [group(path) for path in MODULES if group(path) != GUESTS]
    assert len(others) == len(set(others)) > 10


@pytest.mark.parametrize("text", ["", "pytestmark = pytest.mark.slow\n", "# pytest.mark.guest\n"])
def test_what_is_said_elsewhere_does_not_count(tmp_path_factory: pytest.TempPathFactory,
                                               text: str) -> None:
    module = tmp_path_factory.mktemp("groups") / "test_x.py"
    module.write_text(text, encoding="utf-8")
    assert group(module) == "test_x"


def test_the_mark_may_stand_on_a_line_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    module = tmp_path_factory.mktemp("groups") / "test_x.py"
    module.write_text("pytestmark = [\n    pytest.mark.guest,\n]\n", encoding="utf-8")
    assert group(module) == GUESTS
