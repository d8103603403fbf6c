# SPDX-License-Identifier: Apache-2.0
"""MariaDB: one server for all services, its files in memory.

sqlite is not enough here: an agent's report that meets a request would end as "database is locked".
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.e2e import CloudError
from tests.e2e.cloud import settings
from tests.e2e.cloud.service import Service, listening, run
from tests.e2e.cloud.settings import Place

PORT = 3306
NAMES = ("keystone", "placement", "glance", "neutron", "nova_api", "nova_cell0", "nova_cell1")
INSTALL = "mariadb-install-db"


def server() -> str:
    """The program."""
    program = shutil.which("mariadbd", path="/usr/sbin:/usr/bin")
    if program is None or shutil.which(INSTALL) is None:
        raise CloudError("mariadbd is missing: install mariadb-server-core and mariadb-client-core")
    return program


def service(place: Place) -> Service:
    """The server; ready when it accepts connections."""
    data = place.directory("mariadb")
    if not place.prepared:
        run([INSTALL, "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"],
            place.logs / "mariadb.log")  # fmt: skip
    first = _first_commands(place.state / "mariadb.sql")
    return Service("mariadb", [
        server(), "--no-defaults", "--user=root", f"--datadir={data}", f"--init-file={first}",
        f"--bind-address={settings.CONTROLLER}", f"--port={PORT}", f"--socket={data}/socket",
        f"--pid-file={data}/pid", "--skip-name-resolve", "--max-connections=600",
        # A crash of the machine would lose a second; and the machine's memory, and this with it.
        "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--performance-schema=0",
        "--innodb-buffer-pool-size=96M", "--innodb-log-file-size=16M",
    ], place.logs / "mariadb.log")  # fmt: skip


def _first_commands(path: Path) -> Path:
    who = f"'{settings.DB_USER}'@'%'"
    commands = [f"CREATE OR REPLACE USER {who} IDENTIFIED BY '{settings.SECRET}'",
                f"GRANT ALL ON *.* TO {who}"]  # fmt: skip
    commands += [f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3" for name in NAMES]
    path.write_text(";\n".join(commands) + ";\n")
    return path


def ready() -> bool:
    """Whether the server takes connections."""
    return listening(settings.CONTROLLER, PORT)
