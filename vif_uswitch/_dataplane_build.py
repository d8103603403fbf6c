# SPDX-License-Identifier: Apache-2.0
"""cffi builder: from dataplane/include/uswitch.h to vif_uswitch.dataplane._native.

The header is the single source of the ABI, so nothing of it is repeated here:
the text between ``/* cffi:begin */`` and ``/* cffi:end */`` is cut out of it
and handed to cffi's parser, which knows declarations but no preprocessor.
What that parser cannot take is either rewritten where the meaning is certain
(constant expressions in #define, static assertions, inline bodies, harmless
function attributes) or refused here by line number, instead of as a parser
error about a text nobody has seen.

The packaging runs this file at build time only (``cffi_modules`` in setup.py,
``commands`` in setup.cfg); it must import nothing of ours.  The generated C is
compiled against the real header, so that a disagreement between the two
readings is a build error or an import error.
"""

import ast
import operator
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable
from distutils.command.build_scripts import build_scripts  # setuptools' copy of it

from cffi import FFI
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = ROOT / "dataplane" / "include" / "uswitch.h"
LIBRARY = "dataplane/build/libuswitch.a"
MODULE = "vif_uswitch.dataplane._native"

BEGIN = "/* cffi:begin */"
END = "/* cffi:end */"

# Attributes that change neither layout nor calling convention.
HARMLESS_ATTRIBUTES = {
    "const", "malloc", "nonnull", "nothrow", "pure", "returns_nonnull", "unused", "visibility",
    "warn_unused_result",
}

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(\(?)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(?!define\b)(\w+).*$", re.MULTILINE)
_LITERAL = re.compile(r"\d+|0[xX][0-9a-fA-F]+")
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b")
_INLINE = re.compile(r"^[ \t]*static\s+(?:inline|__inline__)\b[^;{]*\{", re.MULTILINE)
_ASSERTION = re.compile(r"\b(?:_Static_assert|static_assert)\s*\(")
_ATTRIBUTE = re.compile(r"__attribute__\s*\(\(\s*([^()]*(?:\([^()]*\)[^()]*)*)\)\)")

_OPERATORS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}


class HeaderError(ValueError):
    """The header holds something that cffi would misread; says where."""


class BuildDataplane(build_ext):
    """build_ext, after the C side's own Makefile has made the library and the program.

    Wheels and editable installs both come through here.
    """

    command_name = "build_ext"

    def run(self) -> None:
        jobs = f"-j{os.cpu_count() or 1}"
        subprocess.run(["make", "-s", jobs, "-C", str(ROOT / "dataplane")], check=True)
        super().run()


class CopyPrograms(build_scripts):
    """build_scripts for a compiled program: there is no first line to read and adjust."""

    command_name = "build_scripts"

    def copy_scripts(self) -> tuple[list[str], list[str]]:
        copied = []
        pathlib.Path(self.build_dir).mkdir(parents=True, exist_ok=True)
        for program in self.scripts:
            target = pathlib.Path(self.build_dir, pathlib.Path(program).name)
            shutil.copyfile(program, target)
            target.chmod(0o755)
            copied.append(str(target))
        return copied, copied


def slice_header(text: str) -> str:
    """The marked regions, each at its own line so that cffi's line numbers are the header's."""
    kept: list[str] = []
    inside = False
    regions = 0
    for number, line in enumerate(text.splitlines(), 1):
        marker = line.strip()
        if marker in (BEGIN, END):
            if inside == (marker == BEGIN):
                raise HeaderError(f"uswitch.h:{number}: unexpected {marker}")
            inside = marker == BEGIN
            regions += inside
            kept.append("")
        else:
            kept.append(line if inside else "")
    if inside or not regions:
        raise HeaderError(f"uswitch.h: no complete region from {BEGIN} to {END}")
    return "\n".join(kept) + "\n"


def to_cdef(text: str) -> str:
    """Rewrite a slice of C header into what ffi.cdef() accepts, line by line the same."""
    text = _COMMENT.sub(lambda found: _blank(found.group()), text)
    text = text.replace("\\\n", "  ")  # continued lines; only #define has them
    directive = _DIRECTIVE.search(text)
    if directive:
        raise HeaderError(
            f"uswitch.h:{_line(text, directive.start())}: #{directive.group(1)} between the cffi "
            "markers; move it outside of them"
        )
    text = _drop_calls(text, _ASSERTION, "(", ")", tail=r"\s*;")
    text = _drop_calls(text, _INLINE, "{", "}")
    text = _ATTRIBUTE.sub(lambda found: _harmless(text, found), text)
    return _rewrite_defines(text)


def make_builder(header: str) -> FFI:
    builder = FFI()
    builder.cdef(to_cdef(slice_header(header)))
    builder.set_source(
        MODULE,
        '#include "uswitch.h"\n',
        include_dirs=["dataplane/include"],
        extra_objects=[LIBRARY],
        # After the static library on the command line; a library it does not
        # use is not recorded in the extension.
        libraries=["urcu-qsbr", "seccomp"],
        extra_compile_args=["-std=gnu11", "-pthread"],
        extra_link_args=["-pthread", "-Wl,--as-needed"],
        depends=[LIBRARY, "dataplane/include/uswitch.h"],
    )
    return builder


def ffibuilder() -> FFI:
    """What setup.py names in cffi_modules."""
    return make_builder(HEADER.read_text(encoding="utf-8"))


def _blank(text: str) -> str:
    """Nothing, over as many lines."""
    return " " + "\n" * text.count("\n")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _drop_calls(
    text: str, start: re.Pattern[str], opening: str, closing: str, tail: str = ""
) -> str:
    """Blank every construct that starts with a match and ends with the bracket that closes it."""
    while found := start.search(text):
        depth, end = 1, found.end()
        while depth:
            if end == len(text):
                raise HeaderError(f"uswitch.h:{_line(text, found.start())}: unbalanced {opening}")
            depth += {opening: 1, closing: -1}.get(text[end], 0)
            end += 1
        after = re.compile(tail).match(text, end)
        end = after.end() if after else end
        text = text[: found.start()] + _blank(text[found.start() : end]) + text[end:]
    return text


def _harmless(text: str, found: re.Match[str]) -> str:
    without_arguments = re.sub(r"\([^()]*\)", "", found.group(1))
    names = {name.strip("_") for name in re.findall(r"\w+", without_arguments)}
    unknown = ", ".join(sorted(names - HARMLESS_ATTRIBUTES))
    if unknown:
        raise HeaderError(
            f"uswitch.h:{_line(text, found.start())}: cffi cannot see the attribute {unknown}; "
            "lay the struct out without it"
        )
    return _blank(found.group())


def _rewrite_defines(text: str) -> str:
    """cffi reads only literal numbers; compute the others, from what was defined above them."""
    known: dict[str, int] = {}

    def rewrite(found: re.Match[str]) -> str:
        name, arguments, value = found.groups()
        where = f"uswitch.h:{_line(text, found.start())}"
        if arguments:
            raise HeaderError(f"{where}: macro {name} has arguments; move it out of the markers")
        if not value:
            return ""  # a flag for the compiler, no constant
        if _LITERAL.fullmatch(value):
            known[name] = int(value, 0) if not re.fullmatch(r"0[0-7]+", value) else int(value, 8)
            return f"#define {name} {value}"
        try:
            known[name] = evaluate(value, known)
        except (SyntaxError, ValueError) as error:
            raise HeaderError(f"{where}: {name} is not an integer constant: {error}") from error
        return f"#define {name} {known[name]}"

    return _DEFINE.sub(rewrite, text)


def evaluate(expression: str, known: dict[str, int]) -> int:
    """An integer constant expression of C, without casts and division."""
    tree = ast.parse(_SUFFIX.sub(r"\1", expression).strip(), mode="eval")

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name) and node.id in known:
            return known[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"cannot evaluate {ast.unparse(node)!r}")

    return value(tree.body)
