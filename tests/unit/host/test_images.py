# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, Internal, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.images import Image, ImageStore, digest_file
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout


@pytest.fixture
def store(tmp_path: pathlib.Path) -> ImageStore:
    return ImageStore(Layout(str(tmp_path / "state"), str(tmp_path / "run")))


def make(store: ImageStore, name: str, content: bytes, recipe: str = "") -> Image:
    path = pathlib.Path(store.make_work(name), "made")
    path.write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert digest_file(str(path)) == digest
    return store.publish(Image(name, "disk", digest, "raw", len(content), "", recipe=recipe), str(path))


def make_vm(store: ImageStore, name: str, text: str = "{}") -> pathlib.Path:
    path = pathlib.Path(store.layout.vm(name).definition)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def stored(store: ImageStore) -> set[str]:
    return set(os.listdir(f"{store.layout.images}/.content"))


def test_an_image_comes_back_as_it_was_published(store: ImageStore) -> None:
    assert store.names() == [] and store.find("debian-12") is None
    image = make(store, "debian-12", b"content", recipe="r")
    assert store.names() == ["debian-12"]
    assert store.find("debian-12") == image == store.require("debian-12") == store.by_recipe("r")
    assert store.by_recipe("") is None
    assert pathlib.Path(image.path).read_bytes() == b"content"
    assert os.stat(image.path).st_mode & 0o777 == 0o444


def test_equal_content_is_stored_once_and_goes_with_the_last_name(store: ImageStore) -> None:
    one, two = make(store, "one", b"same"), make(store, "two", b"same")
    assert one.path == two.path and len(stored(store)) == 1
    assert store.remove("one") and stored(store)
    assert store.remove("two") and not stored(store)
    assert not store.remove("two")


def test_a_name_that_moves_on_leaves_no_content_behind(store: ImageStore) -> None:
    make(store, "one", b"old")
    image = make(store, "one", b"new")
    assert stored(store) == {os.path.basename(image.path)}


def test_content_stays_while_somebody_was_made_from_it(store: ImageStore) -> None:
    old = make(store, "base", b"old")
    make_vm(store, "web")
    assert store.hold("base", "vm:web") == old
    assert store.users(old) == ["vm:web"]
    new = make(store, "base", b"new")
    assert store.users(new) == [] and os.path.exists(old.path)
    store.release("vm:web", old.digest)
    assert stored(store) == {os.path.basename(new.path)}


def test_a_user_that_is_gone_holds_nothing(store: ImageStore) -> None:
    image = make(store, "base", b"old")
    definition = make_vm(store, "web")
    # Recorded by a task that has ended since.
    task = "import sys; from ansible_collections.unkey.vmcp.plugins.module_utils.host import images, layout; "
    task += "images.ImageStore(layout.Layout(*sys.argv[1:])).hold('base', 'vm:web')"
    subprocess.run([sys.executable, "-c", task, store.layout.state_dir, store.layout.run_dir], check=True, cwd=pathlib.Path(__file__).parents[3])
    assert store.users(image) == ["vm:web"]
    definition.unlink()
    definition.parent.rmdir()
    assert store.users(image) == []
    make(store, "base", b"new")
    assert not os.path.exists(image.path) and os.listdir(f"{store.layout.images}/.users") == []


def test_what_is_being_made_by_a_running_task_counts(store: ImageStore) -> None:
    image = make(store, "base", b"old")
    store.hold("base", "disk:later")
    assert store.users(image) == ["disk:later"]


def test_a_path_in_a_definition_is_a_use(store: ImageStore) -> None:
    image = make(store, "base", b"old")
    make_vm(store, "web", json.dumps({"config": {"storage": [{"path": image.path}]}}))
    assert store.users(image) == ["vm:web"]
    make(store, "base", b"new")
    assert os.path.exists(image.path)


def test_no_image_names_the_nearest(store: ImageStore) -> None:
    make(store, "debian-12", b"x")
    with pytest.raises(NotFound, match=r"no image 'debian-21'.*Did you mean 'debian-12'"):
        store.hold("debian-21", "vm:web")
    os.unlink(store.require("debian-12").path)
    with pytest.raises(NotFound, match=r"is gone\. Run its vmcp_image task again"):
        store.require("debian-12")


def test_descriptions_of_others(store: ImageStore) -> None:
    make(store, "one", b"x")
    path = pathlib.Path(store.description("one"))
    body = json.loads(path.read_text())
    assert body["schema_version"] == 1
    path.write_text(json.dumps({**body, "later": 3}))
    image = store.find("one")
    assert image is not None and image.extra == {"later": 3} and image.as_dict()["later"] == 3
    path.write_text(json.dumps({**body, "schema_version": 2}))
    with pytest.raises(FailedPrecondition, match="newer unkey"):
        store.find("one")
    for text in ("[]", json.dumps({**body, "digest": "../../etc"}), json.dumps({**body, "kind": "cake"})):
        path.write_text(text)
        with pytest.raises(Internal, match="not an image's description"):
            store.find("one")


def test_an_unreadable_description_stops_the_sweep(store: ImageStore) -> None:
    make(store, "one", b"x")
    make(store, "two", b"y")
    pathlib.Path(store.description("one")).write_text("[]")
    with pytest.raises(Internal):
        store.remove("two")
    assert len(stored(store)) == 2
