# SPDX-License-Identifier: Apache-2.0
"""The literal blocks of a page, and what its comments say is to be done with each.

A mark is a comment of reStructuredText, so that no reader sees it.  It stands
before the block (a paragraph of text may come between) and concerns that one:

    .. bed: session               what stands ready from here on (doc_bed_host.py and
                                  doc_bed_libvirt.py); where another one follows, all that was
                                  done before is gone
    .. run: user                  typed by that user (user or root, of the bed) into a shell that
                                  ends at the first failure.  A user has one terminal: the next
                                  block starts in its directory, with the variables it exported
    .. run: user fails            has to fail
    .. run: user until TEXT       goes on to the end of the bed; the next block has to wait until
                                  it has printed TEXT
    .. run: guest vm1             typed into that guest, each line by itself
    .. shows: ping vm2            what the block before has printed must have these lines, in this
                                  order; "…" stands for anything; what stands after shows: is
                                  for people
    .. file: PATH                 the content of that file, written as user of the bed (~ is home);
                                  ".. file: root PATH" as that one
    .. text: WHY                  not typed, and why; what it shows of our commands is parsed
                                  nevertheless (tests/unit/test_doc_commands.py)
    .. hidden: user               commands in the comment itself, indented, not for readers: what a
                                  reader has done before (fails, until and guest as above)

Every literal block of every page has a mark, or the page is refused: no command
escapes because somebody forgot it.  No I/O beside reading the page.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGES = TOP / "doc/source"
BESIDE = ("README", "CONTRIBUTING", "dataplane/README", "devstack/README", "testbed/README",
          "tests/README")  # fmt: skip
"""Pages beside the code, by path."""
MARK = re.compile(r"\.\. (bed|run|shows|file|text|hidden):(?!:)[ ]*(.*)")
DIRECTIVE = re.compile(r"\.\. (?:code-block|code|sourcecode|parsed-literal)::")
EVERYTHING = "…"


class PageError(Exception):
    """A page that cannot be run as it stands; says where."""


@dataclass(frozen=True, slots=True)
class Step:
    """One block and its mark.  ``words``: what stands behind the mark's colon."""

    page: str
    line: int
    kind: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def who(self) -> str:
        return self.words[0] if self.words else ""

    def until(self) -> str:
        """What a program that goes on prints when it is ready; "" if it is none."""
        return " ".join(self.words[2:]) if self.words[1:2] == ("until",) else ""


@dataclass(frozen=True, slots=True)
class Story:
    """What is done on one bed, in order."""

    bed: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """``stories`` is empty where a page has only text."""

    name: str
    stories: tuple[Story, ...]
    texts: tuple[Step, ...]

    @property
    def steps(self) -> list[Step]:
        return [step for story in self.stories for step in story.steps]


def names() -> list[str]:
    """Of all pages."""
    return [*BESIDE, *sorted(path.stem for path in PAGES.glob("*.rst") if path.stem[0] != "_")]


def stories(beds: Collection[str]) -> list[tuple[str, int]]:
    """All that are told on one of these: the page's name, and which of its stories it is.

    A page that is wrong is no error here: this is asked while tests are collected.
    """
    told = {name: [" ".join(words) for _, kind, words, _ in _parts(lines(name)) if kind == "bed"]
            for name in names()}  # fmt: skip
    return [
        (name, number)
        for name, needed in told.items()
        for number, bed in enumerate(needed)
        if bed in beds
    ]


def read(name: str, text: str | None = None) -> Page:
    """Page ``name`` (without .rst); PageError names the line that is wrong."""
    found = lines(name) if text is None else text.splitlines()
    told: list[tuple[str, list[Step]]] = []
    texts = []
    for step in _steps(name, found):
        if step.kind == "bed":
            told.append((" ".join(step.words), []))
        elif step.kind == "text":
            texts.append(step)
        elif not told:
            raise PageError(f"{step}: no '.. bed: NAME' before it")
        else:
            told[-1][1].append(step)
    for bed, steps in told:
        if not any(step.kind == "run" for step in steps):
            raise PageError(f"{name}.rst: on bed '{bed}' nothing is done")
    return Page(name, tuple(Story(bed, tuple(steps)) for bed, steps in told), tuple(texts))


def lines(name: str) -> list[str]:
    """Of a page."""
    path = (TOP if name in BESIDE else PAGES) / f"{name}.rst"
    return path.read_text(encoding="utf-8").splitlines()


def blocks(lines: list[str]) -> list[str]:
    """All literal ones, marked or not."""
    return [text for _, kind, _, text in _parts(lines) if kind == "block"]


def _steps(name: str, lines: list[str]) -> Iterator[Step]:
    """Blocks with their marks, and beds, in order."""
    mark: tuple[str, tuple[str, ...]] | None = None
    for number, kind, words, block in _parts(lines):
        where = f"{name}.rst:{number}"
        if kind == "block":
            if mark is None:
                raise PageError(f"{where}: this block has no mark (see tests/functional/"
                                "doc_blocks.py)")  # fmt: skip
            yield _checked(Step(f"{name}.rst", number, *mark, block))
            mark = None
        elif mark is not None:
            raise PageError(f"{where}: the mark before this one has no block")
        elif kind == "bed":
            yield Step(f"{name}.rst", number, kind, words, "")
        elif kind == "hidden":
            yield _checked(Step(f"{name}.rst", number, "run", words, block))
        else:
            mark = (kind, words)
    if mark is not None:
        raise PageError(f"{name}.rst: its last mark has no block")


def _checked(step: Step) -> Step:
    """Marks that say what nobody understands would pass for a block that ran."""
    words, good = step.words, True
    if step.kind == "run":
        good = (bool(words) and (
            words[1:] in ((), ("fails",)) if words[0] != "guest" else len(words) == 2
        )) or bool(step.until())  # fmt: skip
        if " && " in step.text:
            raise PageError(f"{step}: a shell does not end where the left side of && fails")
    elif step.kind == "file":
        good = len(words) in (1, 2)
    elif step.kind == "text":
        good = bool(words)
    if not good or not step.text.strip():
        raise PageError(f"{step}: '.. {step.kind}: {' '.join(words)}' is not understood, or empty")
    return step


def _parts(lines: list[str]) -> Iterator[tuple[int, str, tuple[str, ...], str]]:
    """(line number, "block" or a mark's name, its words, the block) in order."""
    number = 0
    while number < len(lines):
        line = lines[number]
        found = MARK.fullmatch(line.strip())
        if found:
            end = number + 1
            if found[1] == "hidden":
                end = _indented(lines, end, _indent(line))
            yield number + 1, found[1], tuple(found[2].split()), _text(lines[number + 1 : end])
            number = end
            continue
        number += 1
        directive = DIRECTIVE.match(line.strip())
        if directive or (line.rstrip().endswith("::") and not line.lstrip().startswith("..")):
            end = _indented(lines, number, _indent(line))
            block = lines[number:end]
            while directive and block and re.match(r"\s+:[\w-]+:", block[0]):
                block = block[1:]
            yield number, "block", (), _text(block)
            number = end


def _indented(lines: list[str], start: int, indent: int) -> int:
    """The first line from ``start`` on that is neither empty nor deeper than ``indent``."""
    while start < len(lines) and (not lines[start].strip() or _indent(lines[start]) > indent):
        start += 1
    return start


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _text(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def missing(expected: str, said: str) -> str:
    """The first line of ``expected`` that ``said`` does not have in that order, "" if none.

    Runs of blanks are one; "…" is anything, within a line or as a line of its own.
    """
    there = iter([" ".join(line.split()) for line in said.splitlines()])
    for line in expected.splitlines():
        wanted = " ".join(line.split())
        if wanted in ("", EVERYTHING):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split(EVERYTHING)))
        if not any(pattern.fullmatch(one) for one in there):
            return line
    return ""
