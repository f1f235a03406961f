# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image import Image
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image_reading import read_image_request
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image_request import ImageRequest
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.images import Observed, plan_image, recipe

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


def request(**options: t.Any) -> ImageRequest:
    return read_image_request({"name": "x", **({"url": "https://h/x"} if not options.keys() & {"path", "container", "package"} else {}), **options})


def stored(made_by: ImageRequest, **source: t.Any) -> Observed:
    body = {"type": "url", "source": made_by.source, "digest": DIGEST, "given": made_by.given(), "fingerprint": {"added": {}}, **source}
    return Observed(Image("x", made_by.kind, OTHER, "raw", 1, "/c", source=body), has_content=True, fingerprint={"added": {}})


def test_an_image_that_is_not_there_is_made() -> None:
    plan = plan_image(request(checksum=DIGEST), Observed())
    assert plan.actions == ["fetch", "make", "publish"] and plan.reason == "there is no such image"
    assert plan.steps[0].as_dict() == {"action": "fetch", "from": "https://h/x", "checksum": DIGEST, "max_size": 64 << 30}
    assert plan.diff()["before"] == {} and plan.diff()["after"]["source"] == "https://h/x"


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ({"path": "/x"}, "copy"),
        ({"kind": "rootfs", "container": "docker://x"}, "pull"),
        ({"kind": "rootfs", "container": "oci:/x"}, "copy"),
        ({"kind": "kernel", "package": "linux-image-amd64"}, "download_package"),
    ],
)
def test_how_a_source_is_brought(options: dict[str, t.Any], action: str) -> None:
    assert plan_image(request(**options), Observed()).actions == [action, "make", "publish"]


def test_the_same_again_is_nothing() -> None:
    plan = plan_image(request(), stored(request()))
    assert not plan.changed and plan.reason == "" and plan.diff()["before"] == plan.diff()["after"]


@pytest.mark.parametrize(
    ("options", "found", "reason"),
    [
        ({"format": "qcow2"}, {}, "format became another"),
        ({"url": "https://h/y"}, {}, "source became another"),
        ({"checksum": OTHER}, {}, "checksum became another"),
        ({"force": True}, {}, "force is set"),
        ({}, {"has_content": False}, "its content is gone"),
        ({}, {"fingerprint": {"added": {"/f": OTHER}}}, "its source has changed"),
        ({}, {"newer": "there is another"}, "there is another"),
        ({}, {"has_published": False}, "its published files are gone"),
    ],
)
def test_what_makes_it_be_made_again(options: dict[str, t.Any], found: dict[str, t.Any], reason: str) -> None:
    plan = plan_image(request(**options), dataclasses.replace(stored(request()), **found))
    assert plan.changed and plan.reason == reason


def test_another_mirror_of_the_same_file_changes_nothing() -> None:
    assert not plan_image(request(url="https://mirror/x", checksum=DIGEST), stored(request())).changed
    assert plan_image(request(url="https://mirror/x", checksum=DIGEST, format="qcow2"), stored(request())).changed


def test_what_is_there_under_another_name_is_not_fetched() -> None:
    equal = Image("y", "disk", OTHER, "raw", 1, "/c")
    assert plan_image(request(checksum=DIGEST), Observed(equal=equal)).actions == ["adopt", "publish"]


def test_recipes_tell_what_is_made_apart() -> None:
    recipes = {
        recipe(request(), DIGEST, {}),
        recipe(request(), OTHER, {}),
        recipe(request(format="qcow2"), DIGEST, {}),
        recipe(request(), DIGEST, {"/f": OTHER}),
    }
    assert len(recipes) == 4
    assert recipe(request(url="https://mirror/x"), DIGEST, {}) in recipes


def test_an_image_in_use_is_not_removed() -> None:
    absent = read_image_request({"name": "x", "state": "absent"})
    found = dataclasses.replace(stored(request()), users=("disk:data", "vm:web"))
    with pytest.raises(FailedPrecondition, match=r"is used by disk:data, vm:web\. Remove those first"):
        plan_image(absent, found)
    assert plan_image(dataclasses.replace(absent, force=True), found).actions == ["remove"]
    assert plan_image(absent, stored(request())).actions == ["remove"]
    assert not plan_image(absent, Observed()).changed
