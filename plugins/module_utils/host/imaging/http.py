# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request with the standard library's client: proxies, TLS, redirects that carry no secrets elsewhere. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ...errors import FailedPrecondition, NotFound, Unavailable, VmcpError
from ...model.image_request import Reach
from ...model.words import COLLECTION_VERSION
from .work import Work

# What may be different in a moment.
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
_SAID_MAX_BYTES = 300
# Programs differ in which of the two spellings they read.
_PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_NO_PROXY = ("no_proxy", "NO_PROXY")


class Answer:
    """C(origin): what tells this file from a later one of the same name."""

    def __init__(self, response: t.Any) -> None:
        self.status: int = response.status if hasattr(response, "status") else response.code
        self.url: str = response.geturl()
        self._response = response
        headers = response.headers
        known = {"etag": headers.get("ETag"), "last_modified": headers.get("Last-Modified"), "length": headers.get("Content-Length")}
        self.origin: dict[str, str] = {key: value for key, value in known.items() if value and self.status == 200}
        if self.status == 206:
            self.origin = {key: value for key, value in known.items() if value and key != "length"}
        self._length = headers.get("Content-Length")
        self._content_range = headers.get("Content-Range") or ""
        self.retry_after: t.Optional[str] = headers.get("Retry-After")

    def read(self, size: int) -> bytes:
        # What is there, so that a slow server is noticed between two pieces.
        return bytes(self._response.read1(size))

    def total(self, start: int) -> t.Optional[int]:
        """The whole file's length, where the server says it."""
        return start + int(self._length) if self._length and self._length.isdigit() else None

    def range_start(self) -> t.Optional[int]:
        match = _RANGE.fullmatch(self._content_range.strip())
        return int(match[1]) if match else None

    def said(self) -> str:
        """The beginning of an error's page, as a line."""
        try:
            text = self._response.read(_SAID_MAX_BYTES).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        return " ".join("".join(c if c.isprintable() else " " for c in re.sub(r"<[^>]*>", " ", text)).split())[:200]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Headers of the user's (Authorization) go to the host that they were given for, and to no other; never from https to http."""

    def __init__(self, secret: t.Container[str]) -> None:
        self._secret = secret

    # The base class knows this one, and what to do with it, since Python 3.11 alone.
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def redirect_request(self, req: urllib.request.Request, fp: t.Any, code: int, msg: str, headers: t.Any, newurl: str) -> t.Any:
        new = super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)
        if new is None:
            return None
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if before.scheme == "https" and after.scheme != "https":
            raise FailedPrecondition(f"{req.full_url} redirects to {newurl}, from https to {after.scheme}. Give that URL itself if you trust it.")
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            for name in list(new.headers):
                if name.lower() in self._secret:
                    new.remove_header(name)
        return new


@contextlib.contextmanager
def ask(url: str, reach: Reach, work: Work, headers: t.Mapping[str, str], method: str = "GET") -> t.Iterator[Answer]:
    """The server's answer, whatever its status. OSError and http.client.HTTPException as they come, where another attempt may help; FailedPrecondition for
    a certificate that does not hold."""
    own = {"User-Agent": f"unkey.vmcp/{COLLECTION_VERSION}", "Accept": "*/*", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers={**own, **reach.headers, **headers}, method=method)
    timeout = min(float(reach.idle_s), work.left_s(f"fetching {url}"))
    try:
        response = _opener(reach).open(request, timeout=timeout)
    except urllib.error.HTTPError as exc:
        response = exc
    except urllib.error.URLError as exc:
        if isinstance(exc.reason, ssl.SSLCertVerificationError):
            raise FailedPrecondition(
                f"The certificate of {urllib.parse.urlsplit(url).netloc} does not hold: {exc.reason.verify_message}. "
                "Name its authority in ca_path, or correct the host's clock or certificates."
            ) from exc
        raise
    with contextlib.closing(response):
        yield Answer(response)


def refusal(url: str, answer: Answer) -> VmcpError:
    """The error for a status that is no file. Unavailable where another attempt may help."""
    reason = http.client.responses.get(answer.status, "")
    said = answer.said()
    text = f"The server answered {answer.status} {reason}".rstrip() + f" for {url}" + (f" (redirected to {answer.url})" if answer.url != url else "")
    text += f': "{said}".' if said else "."
    details = {"status": answer.status, "url": answer.url}
    if answer.status in (404, 410):
        return NotFound(f"{text} Is the URL right, and is the file still there? Servers remove old builds.", details=details)
    if answer.status in (401, 403, 407):
        return FailedPrecondition(f"{text} Give what it asks for in 'headers' (Authorization) or 'proxy'.", details=details)
    if answer.status in _MAY_PASS:
        return Unavailable(f"{text} Try again later.", details=details)
    return FailedPrecondition(f"{text} That is no file.", details=details)


def proxy_environ(reach: Reach) -> dict[str, str]:
    """Variables by which a program that fetches goes the same way as we do."""
    if reach.proxy is None:
        return {name: os.environ[name] for name in (*_PROXIES, *_NO_PROXY) if name in os.environ}
    return dict.fromkeys(_PROXIES, reach.proxy) if reach.proxy else {}


def _opener(reach: Reach) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=reach.ca_path)
    if not reach.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # None: as the environment says (http_proxy, https_proxy, no_proxy). Empty: none at all.
    proxies = None if reach.proxy is None else ({"http": reach.proxy, "https": reach.proxy} if reach.proxy else {})
    handlers: list[t.Any] = [urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)]
    opener = urllib.request.OpenerDirector()
    own = [_Redirects({name.lower() for name in reach.headers}), urllib.request.HTTPHandler(), urllib.request.HTTPDefaultErrorHandler()]
    for handler in [*handlers, *own, urllib.request.HTTPErrorProcessor()]:
        opener.add_handler(handler)
    return opener
