# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_image_info): the images of a host, and who uses them. Changes nothing."""

from __future__ import annotations

import typing as t

from ..call import Call, Outcome
from ..host.images import ImageStore, digest_file
from ..host.layout import Layout
from ..model.image import Image
from .image import shown


def run_image_info(call: Call) -> Outcome:
    options = call.options
    store = ImageStore(Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid))
    names = options.get("names")
    images = [image for name in (store.names() if names is None else names) if (image := _image(store, str(name), names is not None)) is not None]
    kinds = options.get("kinds")
    listed = [_shown(image, store, bool(options.get("verify"))) for image in images if kinds is None or image.kind in kinds]
    stored = {body["digest"]: body["stored_bytes"] for body in listed}
    return Outcome({"changed": False, "images": listed, "stored_bytes": sum(stored.values())})


def _image(store: ImageStore, name: str, is_asked_for: bool) -> t.Optional[Image]:
    image = store.find(name)
    return store.require(name) if image is None and is_asked_for else image


def _shown(image: Image, store: ImageStore, verify: bool) -> dict[str, t.Any]:
    body = {**shown(image, store), "has_content": store.has_content(image)}
    if verify:
        body["intact"] = body["has_content"] and digest_file(image.path) == image.digest
    return body
