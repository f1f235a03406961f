# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives made by the tests, good ones and hostile ones."""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import tarfile
import typing as t


def entry(name: str, body: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: t.Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(body), 0o644 if kind == tarfile.REGTYPE else 0o755
    for key, value in more.items():
        setattr(info, key, value)
    return info, body


def directory(name: str, **more: t.Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.DIRTYPE, **more)


def link(name: str, target: str, **more: t.Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.SYMTYPE, linkname=target, **more)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=t.cast("t.Any", mode), format=tarfile.PAX_FORMAT) as archive:
        for info, body in entries:
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def layout(path: pathlib.Path, *layers: bytes, tag: str = "latest", config: dict[str, t.Any] | None = None, **platform: str) -> str:
    """An OCI layout with one image of these layers (tar archives). The digest of its manifest."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(body: bytes, kind: str) -> dict[str, t.Any]:
        name = hashlib.sha256(body).hexdigest()
        (blobs / name).write_bytes(body)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{name}", "size": len(body)}

    kinds = ["layer.v1.tar+gzip" if layer[:2] == b"\x1f\x8b" else "layer.v1.tar" for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps({"architecture": "amd64", "os": "linux", "config": config or {}}).encode(), "config.v1+json"),
        "layers": [blob(layer, kind) for layer, kind in zip(layers, kinds, strict=True)],
    }
    descriptor = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
    if platform:
        descriptor["platform"] = platform
    index = path / "index.json"
    others = json.loads(index.read_text())["manifests"] if index.exists() else []
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [*others, descriptor]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(descriptor["digest"])
