# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of files on the loopback device which can be made to misbehave, request by request."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import pathlib
import re
import ssl
import threading
import time
import typing as t


@dataclasses.dataclass
class Fault:
    """What one answer does wrong. C(cut): bytes of the body after which the connection ends. C(more): bytes sent beyond the length that was said. C(hang_s):
    a pause before the body. C(no_length): an answer that ends with the connection."""

    status: int = 0
    cut: int | None = None
    more: bytes = b""
    hang_s: float = 0.0
    no_length: bool = False
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None


@dataclasses.dataclass
class File:
    """C(faults): one for each answer, from the first; then all goes well. C(ranges): whether the server knows Range. C(redirect): where it is."""

    body: bytes = b""
    etag: str | None = None
    ranges: bool = True
    faults: list[Fault] = dataclasses.field(default_factory=list)
    redirect: str = ""
    redirect_status: int = 302

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


@dataclasses.dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


class FileServer:
    """C(certificate): a file with a certificate and its key, by which the server speaks TLS."""

    def __init__(self, certificate: pathlib.Path | None = None) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[Request] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *arguments: t.Any) -> None:
                """Tests print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, body: bytes = b"", **more: t.Any) -> File:
        self.files[name] = File(body, **more)
        return self.files[name]

    def gets(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.path == name and request.method == "GET"]

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        # A proxy is asked by the whole URL.
        path = re.sub(r"^http://[^/]*", "", handler.path)
        self.requests.append(Request(handler.command, path, dict(handler.headers)))
        file = self.files.get(path)
        fault = file.faults.pop(0) if file and file.faults else Fault()
        handler.close_connection = True
        if file is None or fault.status:
            self._send(handler, fault.status or 404, fault.body if fault.body is not None else b"<h1>No such thing</h1>", fault)
        elif file.redirect:
            handler.send_response(file.redirect_status)
            handler.send_header("Location", file.redirect)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            self._send_file(handler, file, fault)

    def _send_file(self, handler: http.server.BaseHTTPRequestHandler, file: File, fault: Fault) -> None:
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        if match and file.ranges and condition in (None, file.etag):
            start = int(match[1])
        if start and start >= len(file.body):
            handler.send_response(416)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if file.etag:
            fault.headers.setdefault("ETag", file.etag)
        if start:
            fault.headers["Content-Range"] = f"bytes {start}-{len(file.body) - 1}/{len(file.body)}"
        self._send(handler, 206 if start else 200, file.body[start:] if fault.body is None else fault.body, fault)

    @staticmethod
    def _send(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, fault: Fault) -> None:
        handler.send_response(status)
        if not fault.no_length:
            handler.send_header("Content-Length", str(len(body)))
        for name, value in fault.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        time.sleep(fault.hang_s)
        if handler.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                handler.wfile.write((body if fault.cut is None else body[: fault.cut]) + fault.more)
                handler.wfile.flush()

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
