# SPDX-License-Identifier: Apache-2.0
"""keystone, placement, glance, and what all APIs share; neutron and nova have their own files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.cloud import settings
from tests.e2e.cloud.service import Service, run
from tests.e2e.cloud.settings import Place


def api(place: Place, name: str, module: str, port: int, environment: dict[str, str]) -> Service:
    """A service that is an HTTP API."""
    command = [sys.executable, "-m", "tests.e2e.cloud.wsgi", module, str(port)]
    return Service(name, command, place.logs / f"{name}.log",
                   environment={**place.search_path, **environment})  # fmt: skip


def manage(place: Place, command: Sequence[str | Path], log: str) -> None:
    """A step in the making of the databases; not needed where they are prepared."""
    if not place.prepared:
        run(command, place.logs / f"{log}.log")


def keystone(place: Place) -> Service:
    """Identity: its database, its keys, the administrator and the services' user."""
    database = settings.database("keystone")
    keys = {name: place.directory(name) for name in ("fernet", "credential")}
    for path in keys.values():
        path.chmod(0o700)
    conf = place.configuration("keystone", {
        "DEFAULT": {"use_stderr": True},
        "database": {"connection": database},
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": keys["fernet"]},
        "fernet_receipts": {"key_repository": keys["fernet"]},
        "credential": {"key_repository": keys["credential"]},
    })  # fmt: skip
    words = [place.program("keystone-manage"), "--config-file", str(conf)]
    log = "keystone-manage"
    manage(place, [*words, "db_sync"], log)
    # fernet_setup wants a user to give the keys to, and this is who reads them.
    for command in ("fernet_setup", "credential_setup"):
        who = ["--keystone-user", "root", "--keystone-group", "root"]
        manage(place, [*words, command, *who], log)
    urls = [word for kind in ("public", "internal", "admin")
            for word in (f"--bootstrap-{kind}-url", settings.KEYSTONE)]  # fmt: skip
    manage(place, [*words, "bootstrap", "--bootstrap-password", settings.SECRET,
                   "--bootstrap-region-id", settings.REGION, *urls], log)  # fmt: skip
    return api(place, "keystone", "keystone.wsgi.api", 5000, {
        "OS_KEYSTONE_CONFIG_FILES": str(conf)})  # fmt: skip


def placement(place: Place) -> Service:
    """Placement; it makes its own tables."""
    conf = place.configuration("placement", {
        "DEFAULT": {"use_stderr": True},
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": settings.database("placement")},
        "keystone_authtoken": settings.tokens(),
    })  # fmt: skip
    manage(place, [place.program("placement-manage"), "--config-file", conf, "db", "sync"],
           "placement-manage")  # fmt: skip
    return api(place, "placement", "placement.wsgi.api", 8778, {
        "OS_PLACEMENT_CONFIG_DIR": str(conf.parent)})  # fmt: skip


def glance(place: Place) -> Service:
    """Images, in files."""
    images = place.directory("images")
    paste = Path(place.shipped("glance", "glance-api-paste.ini"))
    conf = place.configuration("glance-api", {
        "DEFAULT": {"use_stderr": True, "enabled_backends": "files:file"},
        "database": {"connection": settings.database("glance")},
        "glance_store": {"default_backend": "files"},
        "files": {"filesystem_store_datadir": images},
        "os_glance_staging_store": {"filesystem_store_datadir": images / "staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": images / "tasks"},
        "paste_deploy": {"flavor": "keystone", "config_file": paste},
        "keystone_authtoken": settings.tokens(),
    })  # fmt: skip
    (conf.parent / paste.name).symlink_to(paste)  # glance wants it beside its own
    manage(place, [place.program("glance-manage"), "--config-file", conf, "db_sync"],
           "glance-manage")  # fmt: skip
    return api(place, "glance", "glance.wsgi.api", 9292, {
        "OS_GLANCE_CONFIG_DIR": str(conf.parent)})  # fmt: skip
