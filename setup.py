# SPDX-License-Identifier: Apache-2.0
"""What setup.cfg cannot say; pbr takes everything else from there.

pbr asks git for the version.  Where git cannot answer (an archive without
history, a checkout that belongs to somebody else) a fixed one is provided, so
that ``pip install .`` works there too; PBR_VERSION in the environment wins.
"""

import os
import pathlib
import subprocess
import sys

import setuptools

HERE = pathlib.Path(__file__).resolve().parent
FALLBACK_VERSION = "0.0.0"  # what pbr says where no tag is in reach


def git_answers() -> bool:
    if not (HERE / ".git").exists():  # nor may a repository around us answer
        return False
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--verify", "-q", "HEAD"],
            cwd=HERE, capture_output=True, check=False,
        )
    except FileNotFoundError:  # no git program
        return False
    return asked.returncode == 0


if not ("PBR_VERSION" in os.environ or (HERE / "PKG-INFO").exists() or git_answers()):
    os.environ["PBR_VERSION"] = FALLBACK_VERSION

# pbr imports BuildDataplane, which setup.cfg names, from the tree it builds.
sys.path.insert(0, str(HERE))

setuptools.setup(pbr=True, cffi_modules=["vif_uswitch/_dataplane_build.py:ffibuilder"])
