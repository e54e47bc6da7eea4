"""Checks of hosts and origins, so that no foreign page reaches the server through a visitor's browser.

Such a page can send requests to 127.0.0.1 by that address, or by a name of its own that it points there (DNS
rebinding). The headers Sec-Fetch-Site and Origin, which no page can set, reveal the first, and the header
Host reveals the second.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from newsie.serving.http_errors import RefusedError, send_refusal

__all__ = ["Hosts", "host_of"]

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(?::[0-9]{0,5})?", re.IGNORECASE)
SHOWN_CHARACTERS = 100
"""The maximum length of a refused host in a message."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PRIVATE = (".local", ".internal", ".home.arpa")
"""Suffixes of names that public name servers do not resolve (RFC 6762; ICANN, July 2024; RFC 8375)."""


class Hosts:
    """Middleware that refuses requests with a host of another server, or from a foreign page.

    Args:
        app: the wrapped app.
        bound: address that the server listens at.
        allowed: more host names, as in `Settings.allowed_hosts`.
        open_paths: paths that can be read under any host, so that health checks need none.
    """

    def __init__(
        self, app: ASGIApp, *, bound: str, allowed: Collection[str], open_paths: Collection[str]
    ) -> None:
        self.app, self.open_paths = app, frozenset(open_paths)
        self.allowed = frozenset(name.lower().strip("[]").rstrip(".") for name in allowed)
        self.bound = bound.lower().strip("[]")
        self.is_local = _is_loopback(self.bound)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await send_refusal(refusal, scope, receive, send)

    def _refusal(self, scope: Scope) -> RefusedError | None:
        headers = Headers(scope=scope)
        given = headers.get("host", "")
        if given and not (_is_open(scope, self.open_paths) or self._answers_to(host_of(given))):
            return _misdirected(given)
        if any(len(headers.getlist(name)) > 1 for name in ("origin", "sec-fetch-site")):
            return _REPEATED
        if scope["method"] not in _SAFE and self._is_foreign(headers, host_of(given)):
            return _FOREIGN
        return None

    def _answers_to(self, host: str) -> bool:
        """Return True if a host is allowed by the settings, or needs no setting.

        The loopback names and the address that the server listens at need none. A server that is reachable
        from other machines also accepts hosts that no public name server can point to it: addresses, names
        without a dot, and names in private domains.
        """
        if not host:
            return False
        if "*" in self.allowed or host in self.allowed or _is_loopback(host) or host == self.bound:
            return True
        if any(host.endswith(name[1:]) for name in self.allowed if name.startswith("*.")):
            return True
        if self.is_local:
            return False
        return _address(host) is not None or "." not in host or host.endswith(_PRIVATE)

    def _is_foreign(self, headers: Headers, host: str) -> bool:
        """Return True if a browser reports that a page of another origin sends the request."""
        site = headers.get("sec-fetch-site")
        origin = headers.get("origin")
        if site in ("same-origin", "none") or (site is None and origin is None):
            return False
        page = host_of((origin or "").partition("://")[2])
        # The port is ignored, as many proxies drop it from the header Host that they forward.
        is_same = site is None and page == host
        return not page or not (is_same or page in self.allowed)


def host_of(given: str) -> str:
    """Return the name or address in a header Host, lowercase and without its port; empty if invalid."""
    found = _HOST.fullmatch(given)
    return found[1].lower().strip("[]").rstrip(".") if found else ""


def _is_open(scope: Scope, paths: Collection[str]) -> bool:
    return scope["method"] in _SAFE and scope["path"] in paths


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _misdirected(host: str) -> RefusedError:
    return RefusedError(
        421,
        "host",
        f"the server does not answer to the host {host[:SHOWN_CHARACTERS]!r}. If clients shall reach it by "
        "that name, add the name to the setting NEWSIE_ALLOWED_HOSTS and start the server again: it lists "
        "the names, separated by commas, that the server answers to beside its own address",
    )


_REPEATED = RefusedError(
    400, "origin", "send the headers Origin and Sec-Fetch-Site no more than once each"
)
_FOREIGN = RefusedError(
    403,
    "origin",
    "a web page of another origin sends this; add its host to the setting NEWSIE_ALLOWED_HOSTS",
)
