"""Loads route.lua into LuaJIT 2.1, the engine that Envoy embeds: bytes in, bytes out."""

from typing import Any

from lupa.luajit21 import LuaRuntime

from ciclo_local.envoy import SOURCES

LUA = LuaRuntime(encoding=None)
LUA.execute((SOURCES / "route.lua").read_bytes())
ROUTE: Any = LUA.globals().ciclo
"""The script's pure functions."""

NOW_US = 1_600_000_000_000_000
"""Wall time of every decision: 2020-09-13T12:26:40Z."""


def table(value: Any) -> Any:
    """Returns a Lua table with the content of a dict or list, text as bytes."""
    if isinstance(value, dict):
        return LUA.table_from({table(k): table(v) for k, v in value.items()})
    if isinstance(value, list):
        return LUA.table_from([table(item) for item in value])
    return value.encode() if isinstance(value, str) else value


def models(**tables: Any) -> Any:
    """Returns a loaded routing table: model name to `{"salt": …, "versions": […]}`."""
    return ROUTE.load(table(tables))


def version(number: str, weight: float, variant: str) -> dict[str, Any]:
    return {"version": number, "weight": weight, "variant": variant}


CANARY = models(
    m={
        "salt": "rollout-1",
        "versions": [
            version("1", 90, "champion"),
            version("2", 10, "challenger"),
            version("7", 0, "previous"),
        ],
    }
)
"""One model: champion 1, challenger 2, and 7, which may be pinned."""


def frame(message: bytes, flag: int = 0) -> bytes:
    """Returns a message as gRPC sends it."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def decide(
    body: bytes,
    key: bytes | None = None,
    event_time: bytes | None = None,
    routes: Any = CANARY,
    minted: bytes = b"minted-1",
    now_us: int = NOW_US,
) -> dict[str, Any]:
    """Returns the script's decision as a dict, text as str and the body as bytes."""
    decision = dict(ROUTE.decide(body, minted, key, event_time, routes, now_us).items())
    return {
        name.decode(): value.decode() if isinstance(value, bytes) and name != b"body" else value
        for name, value in decision.items()
    }
