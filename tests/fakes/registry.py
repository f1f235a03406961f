# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry of container images on the loopback device, as far as a client that only pulls asks (OCI distribution specification)."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import threading
import typing as t

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Registry:
    """One repository with one tag, out of an OCI layout."""

    def __init__(self, layout: pathlib.Path, name: str, tag: str) -> None:
        self.name, self.tag = name, tag
        self.requests: list[str] = []
        self.replace(layout)
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.requests.append(self.path)
                kind, body = registry.find(self.path)
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *arguments: t.Any) -> None:
                """Tests print nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def replace(self, layout: pathlib.Path) -> None:
        self._layout = layout
        descriptor = json.loads((layout / "index.json").read_text())["manifests"][-1]
        self._manifest = descriptor["digest"].partition(":")[2]

    def find(self, path: str) -> tuple[str, bytes]:
        """Type and body; an empty type where there is none."""
        if path in ("/v2/", "/v2"):
            return "application/json", b"{}"
        match = re.fullmatch(rf"/v2/{self.name}/(manifests|blobs)/(?:sha256:)?(\S+)", path)
        name = self._manifest if match and match[2] == self.tag else match[2] if match else ""
        file = self._layout / "blobs" / "sha256" / name
        if not name or not file.is_file():
            return "", b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no such thing"}]}'
        return MANIFEST if match and match[1] == "manifests" else "application/octet-stream", file.read_bytes()


@contextlib.contextmanager
def serve_layout(layout: pathlib.Path, name: str, tag: str) -> t.Iterator[Registry]:
    registry = Registry(layout, name, tag)
    thread = threading.Thread(target=registry.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.server.shutdown()
        registry.server.server_close()
        thread.join()
