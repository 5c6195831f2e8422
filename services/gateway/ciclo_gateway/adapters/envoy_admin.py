"""Envoy's admin page, over one connection: a client made anew for each look costs 30 ms."""

from datetime import timedelta
from typing import Final

import httpx

from ciclo.errors import Retry

TIMEOUT: Final = timedelta(seconds=2)
"""Of a request; the page answers within milliseconds."""


class EnvoyAdmin:
    """A part that asks the admin page.

    Args:
        url: `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Connects with the first request."""
        self._client = httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT.total_seconds())

    async def stop(self) -> None:
        """Closes the connection."""
        if self._client:
            await self._client.aclose()

    async def statistics(self, pattern: str) -> dict[str, str]:
        """Returns the statistics whose names match, with their values as text. Raises `Retry`."""
        text = await self._ask("GET", f"/stats?filter={pattern}")
        pairs = (line.split(": ", 1) for line in text.splitlines() if ": " in line)
        return {name: value.strip('"') for name, value in pairs}

    async def reopen_logs(self) -> None:
        """Makes Envoy open its log files anew, within its flush interval. Raises `Retry`."""
        await self._ask("POST", "/reopen_logs")

    async def _ask(self, method: str, path: str) -> str:
        if self._client is None:
            raise Retry("Envoy's admin page is asked before start()")
        try:
            return (await self._client.request(method, path)).raise_for_status().text
        except httpx.HTTPError as error:
            raise Retry(f"Envoy's admin page {self._url}{path}: {error!r}") from error
