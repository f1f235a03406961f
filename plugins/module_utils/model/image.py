# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image as it is stored: C(host/images.py) says where. Standard library only, pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .image_words import KINDS

DIGEST_PATTERN = "sha256:[0-9a-f]{64}"


@dataclasses.dataclass(frozen=True)
class Image:
    """C(image.json).

    C(digest): C(sha256:HEX) of the content as stored in C(path). C(format): C(raw), C(qcow2), C(vhdx), C(elf), C(ext4)…
    C(size_bytes): what a guest sees (a disk's virtual size), else the file's length. C(source): where it came from, with C(digest) of what was fetched.
    C(facts): what is known about the content (a kernel's C(version), C(needs)…). C(recipe): digest of everything that decides what the content is; the
    same recipe need not be carried out again. C(created): ISO 8601, UTC."""

    name: str
    kind: str
    digest: str
    format: str
    size_bytes: int
    path: str
    source: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    facts: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    recipe: str = ""
    created: str = ""
    extra: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, t.Any]:
        """JSON values, the path included: what results show."""
        body = dataclasses.asdict(self)
        return {**body.pop("extra"), **body}

    @classmethod
    def from_dict(cls, body: t.Mapping[str, t.Any]) -> Image:
        """KeyError or TypeError for what is none."""
        known = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        extra = {key: value for key, value in body.items() if key not in known and key != "schema_version"}
        image = cls(**{key: body[key] for key in known if key in body}, extra=extra)
        if not re.fullmatch(DIGEST_PATTERN, image.digest) or image.kind not in KINDS or not isinstance(image.size_bytes, int):
            raise TypeError("not an image")
        return image
