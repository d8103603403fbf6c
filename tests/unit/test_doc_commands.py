# SPDX-License-Identifier: Apache-2.0
"""Every command of ours that a page shows is one that our programs take.

Pages for libvirt are typed as a whole (functional/test_doc_shell.py).  Most
others want a cloud, an adapter or a package; what can be said of them without
is that no line has an option that is gone or a target that never was.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator

import pytest

from vif_uswitch.cmd import uswitchctl
from vif_uswitch.uplink import cli

TOP = pathlib.Path(__file__).resolve().parents[2]
PAGES = [*sorted(TOP.glob("doc/source/*.rst")),
         *(TOP / name for name in ("README.rst", "CONTRIBUTING.rst", "devstack/README.rst",
                                   "tests/README.rst", "testbed/README.rst"))]  # fmt: skip
PARSERS = {"uswitchctl": lambda: uswitchctl.build().parser, "uswitch-uplink": cli.build}
PROMPT = re.compile(r"^(?:[$#] |sudo (?:-u \w+ )?)*(?:\S*/bin/)?")
# A form instead of a command, or text beside commands in two columns.
FORM = re.compile(r"[…|\[<]|\.\.\.")
OTHER_DIRECTIVE = re.compile(r"\.\. (?!code)")
ENDS = (";", "&&", "||", "&", ">")
REMARK = re.compile(r"(?:\s{3,}|\s+#\s).*$")


def literal_lines(text: str) -> Iterator[str]:
    """The lines of literal blocks, those that go on after a backslash joined."""
    inside = ended = False
    held = ""
    for line in text.splitlines():
        if line.strip() and not line.startswith("  "):
            inside, ended = False, line.endswith("::") and not OTHER_DIRECTIVE.match(line)
        elif not line.strip():
            inside, ended = inside or ended, False
        elif inside:
            held += line.strip()
            if held.endswith("\\"):
                held = held[:-1]
                continue
            yield held
            held = ""


def commands(text: str) -> Iterator[list[str]]:
    """Those of our programs and of make, without prompt and remark."""
    for line in literal_lines(text):
        plain = REMARK.sub("", PROMPT.sub("", line))
        if plain.split(" ")[0] in (*PARSERS, "make") and not FORM.search(plain):
            yield list(itertools.takewhile(lambda word: word not in ENDS, shlex.split(plain)))


def complaint(words: list[str], targets: set[str]) -> str:
    """What the program would say of its arguments, "" if it takes them."""
    if words[0] == "make":
        wanted = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        directories = itertools.takewhile(lambda word: word != "-C", words)
        here = len(list(directories)) == len(words)
        return f"no targets {set(wanted) - targets}" if here and set(wanted) - targets else ""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            PARSERS[words[0]]().parse_args(words[1:])
    except SystemExit as end:
        return said.getvalue() if end.code else ""
    return ""


@pytest.fixture(scope="module")
def targets() -> set[str]:
    makefile = (TOP / "Makefile").read_text()
    heads = re.findall(r"^([a-z0-9][\w -]*):(?!=)", makefile, re.MULTILINE)
    return {name for head in heads for name in head.split()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_commands_are_such(page: pathlib.Path, targets: set[str]) -> None:
    wrong = [f"{shlex.join(words)}: {said}" for words in commands(page.read_text())
             if (said := complaint(words, targets))]
    assert not wrong, "\n".join(wrong)


def test_what_it_would_find(targets: set[str]) -> None:
    text = ("Do::\n\n   # uswitchctl port list --nonsense   which is none\n   sudo make nothing\n"
            "   uswitchctl port add vm1 \\\n     --segment blue   # a remark\n   make test\n\n"
            "Text: uswitchctl nonsense\n")  # fmt: skip
    found = list(commands(text))
    assert found == [["uswitchctl", "port", "list", "--nonsense"], ["make", "nothing"],
                     ["uswitchctl", "port", "add", "vm1", "--segment", "blue"], ["make", "test"]]
    assert [bool(complaint(words, targets)) for words in found] == [True, True, False, False]


def test_there_are_commands_to_check() -> None:
    assert sum(len(list(commands(page.read_text()))) for page in PAGES) > 40
