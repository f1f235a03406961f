# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of this host: what VMs and disks are made from, by name, their content stored once. Standard library only.

    images/NAME/image.json           what the name stands for (C(Image)); root's, 0700 directory
    images/.content/sha256-HEX       content, read-only, never changed; names with the same content share it
    images/.users/sha256-HEX/USER    who has been made from it and needs it still: C(vm:web), C(disk:data)
    images/.work/NAME/               what a task has under way; a killed one's rests are taken up or removed by the next

Content goes when no name and no user is left. Names are changed under C(Layout.image_lock), content and users under C(Layout.images_lock).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
import typing as t

from ..errors import DeadlineExceeded, FailedPrecondition, Internal, NotFound
from ..model.image import DIGEST_PATTERN, Image
from ..model.words import NAME_PATTERN
from .files import listed, os_errors, read_json, remove, sync_dir, sync_file, write_atomic, write_plain
from .image_users import Users
from .locks import Held, held
from .trees import ensure_dir, remove_tree

if t.TYPE_CHECKING:
    from .layout import Layout

SCHEMA = 1
_NAME = re.compile(NAME_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)
# Below it are directories of tasks.
WORK = ".work"
# A download that was cut off is worth that much: for so long a task may be run again that goes on with it.
STALE_S = 14 * 86400.0
_COPY_BYTES = 1 << 20


class ImageStore:
    """Reading takes no lock and makes nothing."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._users = Users(layout)

    # --- reading --------------------------------------------------------------------------------------
    def names(self) -> list[str]:
        """Every image that has a description, sorted."""
        return sorted(name for name in listed(self.layout.images) if _NAME.fullmatch(name) and os.path.lexists(self.description(name)))

    def find(self, name: str) -> t.Optional[Image]:
        """None when there is no such image. FailedPrecondition for a newer schema, Internal for a torn description or one whose content is gone."""
        path = self.description(name)
        if not _NAME.fullmatch(name):
            return None
        try:
            body = read_json(path)
        except FileNotFoundError:
            return None
        schema = body.get("schema_version") if isinstance(body, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise FailedPrecondition(f"{path} was written by a newer unkey.vmcp. Run the task with that version of the collection.")
        try:
            image = Image.from_dict(body)
        except (KeyError, TypeError, AttributeError):
            raise Internal(f"{path} is not an image's description. Remove {os.path.dirname(path)} and make the image again.") from None
        return dataclasses.replace(image, name=name, path=self.content(image.digest))

    def require(self, name: str) -> Image:
        """As C(find); NotFound, with the nearest names, when it or its content is not there."""
        import difflib

        image = self.find(name)
        if image is None:
            near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "Make it with unkey.vmcp.vmcp_image."
            raise NotFound(f"There is no image {name!r} in {self.layout.images}. {hint}", details={"nearest": near})
        if not self.has_content(image):
            raise NotFound(f"The content of the image {name!r} ({image.path}) is gone. Run its vmcp_image task again.")
        return image

    def has_content(self, image: Image) -> bool:
        return os.path.isfile(image.path)

    def by_recipe(self, recipe: str) -> t.Optional[Image]:
        """An image of any name that was made by this very recipe, and is there with all that belongs to it."""
        for name in self.names():
            image = self.find(name)
            if image is not None and recipe and image.recipe == recipe and self.has_content(image) and self.has_published(image):
                return image
        return None

    @staticmethod
    def has_published(image: Image) -> bool:
        """Whether a kernel is under its name and version; true for what is published nowhere."""
        return not image.facts.get("published") or os.path.isfile(str(image.facts.get("kernel_path")))

    def users(self, image: Image) -> list[str]:
        """Who needs the content, sorted: C(vm:web), C(disk:data), C(host default kernel). Other names of the content are no users."""
        return self._users.of(image)

    def description(self, name: str) -> str:
        return f"{self.layout.images}/{name}/image.json"

    def content(self, digest: str) -> str:
        return f"{self.layout.images}/.content/{digest.replace(':', '-')}"

    def work(self, name: str) -> str:
        """A directory for what is under way, on the file system of the content. Made by C(make_work)."""
        return f"{self.layout.images}/{WORK}/{name}"

    # --- locks ----------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def locked(self, name: str, what: str, timeout_s: float, on_wait: t.Optional[t.Callable[[t.Any], None]] = None) -> t.Iterator[Held]:
        """Whoever makes or removes the image of this name holds this meanwhile."""
        with held(self.layout.image_lock(name), what, timeout_s, on_wait) as taken:
            yield taken

    @contextlib.contextmanager
    def _content_locked(self, what: str) -> t.Iterator[None]:
        with held(self.layout.images_lock, what, 60.0):
            yield

    # --- users ----------------------------------------------------------------------------------------
    def hold(self, name: str, user: str) -> Image:
        """The image, recorded as used by C(user) (C(vm:NAME), C(disk:NAME)) before anything is made from it. NotFound as C(require).

        Counts while the user's directory is there, or until the task that calls has ended; C(release) takes it back."""
        with self._content_locked(f"use the image {name}"):
            image = self.require(name)
            self._users.add(image.digest, user)
            return image

    def release(self, user: str, digest: t.Optional[str] = None) -> None:
        """C(user) needs this content (None: any) no longer. What nobody needs any more is removed."""
        if not os.path.isdir(self.layout.images):
            return
        with self._content_locked(f"release the images of {user}"):
            self._mark()
            self._users.drop(user, digest)
            self._sweep()

    # --- making and removing --------------------------------------------------------------------------
    def has_remains(self, name: str) -> bool:
        """Whether there is anything of the name, also what a killed task left."""
        return os.path.lexists(os.path.dirname(self.description(name))) or os.path.lexists(self.work(name))

    def finish(self) -> None:
        """Removes content that a task would have removed that was killed before it did."""
        if os.path.lexists(self._unswept):
            with self._content_locked("remove content that nobody needs"):
                self._sweep()

    def forget_stale(self) -> None:
        """Removes what tasks have left under way that nobody has gone on with for long."""
        for name in listed(f"{self.layout.images}/{WORK}"):
            if self._is_stale(self.work(name)):
                with contextlib.suppress(DeadlineExceeded), self.locked(name, "remove what a task has left", 0.0):
                    if self._is_stale(self.work(name)):
                        remove_tree(self.work(name), sync=False)

    @staticmethod
    def _is_stale(work: str) -> bool:
        try:
            times = [os.lstat(path).st_mtime for path in (work, *(f"{work}/{name}" for name in os.listdir(work)))]
        except (FileNotFoundError, NotADirectoryError):
            return False
        return time.time() - max(times) > STALE_S

    @property
    def _unswept(self) -> str:
        return f"{self.layout.images}/.unswept"

    def make_work(self, name: str) -> str:
        """The directory for what is under way, made if need be."""
        path = self.work(name)
        for directory, mode in ((self.layout.state_dir, 0o711), (self.layout.images, 0o711), (os.path.dirname(path), 0o700), (path, 0o700)):
            ensure_dir(directory, mode)
        return path

    def publish(self, image: Image, temporary: t.Optional[str]) -> Image:
        """Gives the content C(temporary) (a file on the same file system; None: it is stored already) its place, and then the name to it. What the name stood
        for before goes, when nobody else needs it. After a power failure the name stands for the old content or for the new one, whole."""
        ensure_dir(f"{self.layout.images}/.content", 0o711)
        final = dataclasses.replace(image, path=self.content(image.digest))
        with self._content_locked(f"publish the image {image.name}"):
            if temporary is not None:
                self._place(temporary, final.path)
            elif not self.has_content(final):
                raise NotFound(f"The content {final.path} is gone. Run the task again.")
            ensure_dir(os.path.dirname(self.description(image.name)), 0o700)
            body = {"schema_version": SCHEMA, **final.as_dict()}
            self._mark()
            write_atomic(self.description(image.name), json.dumps(body, indent=1, sort_keys=True) + "\n")
            self._sweep()
        return final

    def _place(self, temporary: str, path: str) -> None:
        with os_errors(f"store {path}"):
            if os.path.isfile(path) and os.stat(path).st_size == os.stat(temporary).st_size:
                remove(temporary)
                return
            # Read-only, also for whoever is root by mistake of mode alone; others reach it by its name only, which they cannot list.
            os.chmod(temporary, 0o444)
            sync_file(temporary)
            os.rename(temporary, path)
            sync_dir(os.path.dirname(path))

    def remove(self, name: str) -> bool:
        """Forgets the name and what is under way for it; content that nobody else needs goes too. False when there was nothing."""
        directory = os.path.dirname(self.description(name))
        if not self.has_remains(name):
            return False
        with self._content_locked(f"remove the image {name}"):
            self._mark()
            # The description first: without it the name stands for nothing.
            with os_errors(f"remove {directory}"):
                remove(self.description(name))
            remove_tree(directory)
            remove_tree(self.work(name))
            self._sweep()
        return True

    def _mark(self) -> None:
        """Says that there may soon be content which nobody needs, before that is so."""
        write_note(self._unswept, {})

    def _sweep(self) -> None:
        """Removes content that nobody needs. A description that cannot be read stops it: what it needs is not known."""
        named = {image.digest for name in self.names() if (image := self.find(name)) is not None}
        for entry in listed(f"{self.layout.images}/.content"):
            digest = entry.replace("-", ":", 1)
            if _DIGEST.fullmatch(digest) and digest not in named and not self._users.of_digest(digest):
                with os_errors(f"remove the content {entry}"):
                    remove(f"{self.layout.images}/.content/{entry}")
        self._users.tidy()
        with os_errors(f"remove {self._unswept}"):
            remove(self._unswept)


def digest_file(path: str, beat: t.Callable[[int], None] = lambda done: None, algorithm: str = "sha256") -> str:
    """C(sha256:HEX) of a file, or by another algorithm. C(beat) is called now and then with the bytes done, and may raise to end it."""
    import hashlib

    total, done = hashlib.new(algorithm), 0
    with os_errors(f"read {path}"), open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(_COPY_BYTES):
            total.update(chunk)
            done += len(chunk)
            beat(done)
    return f"{algorithm}:{total.hexdigest()}"


def write_note(path: str, body: t.Mapping[str, t.Any]) -> None:
    """A small file beside what is under way, which may be lost in a power failure."""
    with os_errors(f"write {path}"):
        write_plain(path, json.dumps(body) + "\n")
