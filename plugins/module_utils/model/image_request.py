# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a C(vmcp_image) task asks for, once it is read (C(image_reading)). Standard library only, pure."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from .image_additions import Additions


@dataclasses.dataclass(frozen=True)
class Checksum:
    """C(digest): C(sha256:HEX) or C(sha512:HEX), else C(url) of a list of checksums in which the file is looked up."""

    digest: str = ""
    url: str = ""


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file of the controller's: what the action plugin knows of it, and C(path) on the host once it was transferred."""

    name: str
    size: int
    digest: str
    path: str = ""


@dataclasses.dataclass(frozen=True)
class Reach:
    """How a server is reached. C(idle_s): seconds without a byte; C(deadline_s): for all of the task."""

    proxy: t.Optional[str]
    headers: t.Mapping[str, str]
    validate_certs: bool
    ca_path: t.Optional[str]
    retries: int
    idle_s: int
    deadline_s: int
    authfile: t.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """C(source_type): one of C(SOURCES), C(source): where it is. C(format): what is stored. C(source_format): empty when it is to be found out."""

    name: str
    state: str
    kind: str
    source_type: str
    source: str
    checksum: Checksum
    format: str
    source_format: str
    unpack: bool
    max_size: int
    filesystem: str
    size: t.Optional[int]
    label: str
    additions: Additions
    reach: Reach
    refresh: bool
    force: bool
    upload: t.Optional[Upload] = None

    def given(self) -> dict[str, t.Any]:
        """What of the request decides where the content comes from, as JSON values: recorded, and compared with at the next run. No secrets: contents of
        files are digests, headers are left out."""
        source = self.upload.digest if self.upload else self.source
        return {"type": self.source_type, "source": source, "checksum": self.checksum.digest or self.checksum.url, **self.making()}

    def making(self) -> dict[str, t.Any]:
        """What of the request decides what is made of the source."""
        body: dict[str, t.Any] = {"kind": self.kind, "format": self.format, "source_format": self.source_format, "unpack": self.unpack}
        if self.kind == "rootfs":
            body.update(filesystem=self.filesystem, size=self.size, label=self.label, additions=self.additions.digests())
        return body
