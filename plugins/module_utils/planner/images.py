# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for an image to be as asked for. Pure: steps as data, which C(runner/image_make.py) carries out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

from ..errors import FailedPrecondition
from ..model.image import Image
from ..model.image_request import ImageRequest

# The only words for steps, in results (C(actions)) too.
ACTIONS = ("fetch", "copy", "transfer", "pull", "download_package", "adopt", "make", "publish", "remove")
# Part of each recipe: raised when the same source and options are made into something else than before.
RECIPE_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Observed:
    """The image as found, and its source as far as one can see without fetching it.

    C(has_content), C(has_published): whether the files that C(image) speaks of are there. C(fingerprint): what tells one state of a source on the host from
    another, and digests of files that are put in. C(newer): what a look at a remote source (C(refresh)) found to be new; empty when nothing.
    C(equal): an image of any name that was made by the recipe asked for, where that is known beforehand. C(users): who needs the content.
    C(has_remains): whether a killed task has left something of the name."""

    image: t.Optional[Image] = None
    has_content: bool = False
    has_published: bool = True
    fingerprint: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    newer: str = ""
    equal: t.Optional[Image] = None
    users: tuple[str, ...] = ()
    has_remains: bool = False


@dataclasses.dataclass(frozen=True)
class ImageStep:
    action: str
    args: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, t.Any]:
        return {"action": self.action, **self.args}


@dataclasses.dataclass(frozen=True)
class ImagePlan:
    """C(reason): why anything is done, in half a sentence."""

    name: str
    steps: tuple[ImageStep, ...] = ()
    reason: str = ""
    before: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    after: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return bool(self.steps)

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]

    def has(self, action: str) -> bool:
        return action in self.actions

    def diff(self) -> dict[str, t.Any]:
        title = f"image {self.name}"
        return {"before": dict(self.before), "after": dict(self.after), "before_header": title, "after_header": title}


def plan_image(request: ImageRequest, observed: Observed) -> ImagePlan:
    """FailedPrecondition where the image is to be removed and somebody needs it."""
    before = shown(observed.image)
    if request.state == "absent":
        return _removal(request, observed, before)
    reason = _reason(request, observed)
    if not reason:
        return ImagePlan(request.name, before=before, after=before)
    after: dict[str, t.Any] = {"kind": request.kind, "format": request.format, "source": request.source}
    if request.checksum.digest or request.checksum.url:
        after["checksum"] = request.checksum.digest or request.checksum.url
    if request.kind == "rootfs":
        after["filesystem"] = request.filesystem
    if observed.equal is not None:
        after["digest"] = observed.equal.digest
        return ImagePlan(request.name, (ImageStep("adopt", {"from": observed.equal.name}), ImageStep("publish")), reason, before, after)
    make = {key: value for key, value in request.making().items() if value not in (None, "", {})}
    return ImagePlan(request.name, (_get(request), ImageStep("make", make), ImageStep("publish")), reason, before, after)


def shown(image: t.Optional[Image]) -> dict[str, t.Any]:
    """What of a stored image a diff shows."""
    if image is None:
        return {}
    return {"kind": image.kind, "format": image.format, "source": image.source.get("source"), "digest": image.digest}


def recipe(request: ImageRequest, source_digest: str, added: t.Mapping[str, str]) -> str:
    """Digest of all that decides the content. C(source_digest): of what was fetched. C(added): digests of files of the host that are put in."""
    body = {"version": RECIPE_VERSION, "source": source_digest, "making": request.making(), "added": dict(added)}
    return f"sha256:{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}"


def known_source_digest(request: ImageRequest) -> str:
    """The SHA-256 of the source, where the request says it. Empty when it has to be fetched to know."""
    if request.upload:
        return request.upload.digest
    return request.checksum.digest if request.checksum.digest.startswith("sha256:") else ""


def _removal(request: ImageRequest, observed: Observed, before: t.Mapping[str, t.Any]) -> ImagePlan:
    if observed.image is None:
        if not observed.has_remains:
            return ImagePlan(request.name)
        return ImagePlan(request.name, (ImageStep("remove"),), "a task that was cut off has left something of it")
    if observed.users and not request.force:
        raise FailedPrecondition(
            f"The image {request.name!r} is used by {', '.join(observed.users)}. Remove those first, or forget the name alone with force: true, "
            "which leaves the content until nobody needs it.",
            details={"users": list(observed.users)},
        )
    return ImagePlan(request.name, (ImageStep("remove", {"users": list(observed.users)} if observed.users else {}),), "it is to be absent", before, {})


def _reason(request: ImageRequest, observed: Observed) -> str:
    """Why the image has to be made, or empty."""
    image = observed.image
    if image is None:
        return "there is no such image"
    reasons = (
        (not observed.has_content, "its content is gone"),
        (request.force, "force is set"),
        (bool(differing := _differing(request, image)), f"{', '.join(differing)} became another"),
        (not _is_equal(observed.fingerprint, image.source.get("fingerprint") or {}), "its source has changed"),
        (bool(observed.newer), observed.newer),
        (not observed.has_published, "its published files are gone"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _differing(request: ImageRequest, image: Image) -> list[str]:
    """Options that are not those by which the image was made."""
    if image.kind == request.kind and _is_of_same_source(request, image):
        return []
    given, wanted = image.source.get("given") or {}, request.given()
    return sorted(key for key in {*given, *wanted} if given.get(key) != wanted.get(key))


def _is_of_same_source(request: ImageRequest, image: Image) -> bool:
    """Whether the stored content is, by its digest, what the request names: another mirror of the same file changes nothing."""
    known = known_source_digest(request)
    given = image.source.get("given") or {}
    return bool(known) and known == image.source.get("digest") and all(given.get(key) == value for key, value in request.making().items())


def _is_equal(fingerprint: t.Mapping[str, t.Any], recorded: t.Mapping[str, t.Any]) -> bool:
    # Through JSON, as the recorded one went.
    return bool(json.loads(json.dumps(dict(fingerprint))) == recorded)


def _get(request: ImageRequest) -> ImageStep:
    args: dict[str, t.Any] = {"from": request.source}
    if request.checksum.digest or request.checksum.url:
        args["checksum"] = request.checksum.digest or request.checksum.url
    if request.source_type == "url":
        return ImageStep("fetch", {**args, "max_size": request.max_size})
    if request.source_type == "src":
        return ImageStep("transfer", args)
    if request.source_type == "package":
        return ImageStep("download_package", args)
    return ImageStep("pull" if request.source.startswith("docker://") else "copy", args)
