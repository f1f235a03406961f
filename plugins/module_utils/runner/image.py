# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_image): observe, plan, [check mode ends here], carry out, observe again."""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
import typing as t

from ..call import Call, Outcome
from ..errors import DeadlineExceeded, NotFound, Unavailable, VmcpError
from ..host import kernels
from ..host.images import ImageStore, digest_file
from ..host.imaging.fetch import NOTE, PART
from ..host.imaging.work import Work
from ..host.layout import Layout
from ..host.trees import remove_tree
from ..model.image import Image
from ..model.image_reading import read_image_request
from ..model.image_request import ImageRequest
from ..planner.images import ImagePlan, Observed, plan_image, recipe
from .image_acquire import Acquired, acquire
from .image_build import Built, build
from .image_observe import observe
from .progress import Progress

_RESUMABLE = (Unavailable, DeadlineExceeded)


def run_image(call: Call) -> Outcome:
    request = read_image_request(call.options)
    layout = Layout.resolve(call.options.get("state_dir"), call.options.get("run_dir"), call.environ, call.uid)
    task = _Task(call, request, ImageStore(layout), Progress(layout, 0, call.warn))
    try:
        return task.run()
    finally:
        task.progress.close()


class _Task:
    def __init__(self, call: Call, request: ImageRequest, store: ImageStore, progress: Progress) -> None:
        self.call, self.request, self.store, self.progress = call, request, store, progress
        deadline_s = float(request.reach.deadline_s)
        self.work = Work(store.work(request.name), request.max_size, time.monotonic() + deadline_s, deadline_s, self._tell)

    def _tell(self, doing: str, done: int, total: int) -> None:
        if self.call.act:
            self.progress.total = total
            self.progress.say(doing, done, often=True, image=self.request.name)

    def run(self) -> Outcome:
        if self.call.act:
            self.store.forget_stale()
        observed = observe(self.request, self.store, self.work)
        plan = plan_image(self.request, observed)
        if self.call.act and not plan.changed:
            self._finish()
        if not plan.changed or not self.call.act:
            return self._outcome(plan, observed.image)
        if plan.has("transfer") and self.request.upload is not None and not self.request.upload.path:
            return Outcome({"changed": False, "upload_needed": True, "name": self.request.name})
        return self._act()

    def _act(self) -> Outcome:
        with self._locked():
            # Somebody else may have made it while we waited.
            observed = observe(self.request, self.store, self.work)
            plan = plan_image(self.request, observed)
            if plan.has("remove"):
                self._remove(observed)
            elif plan.changed:
                self._make(observed)
        return self._outcome(plan, self.store.find(self.request.name))

    def _finish(self) -> None:
        """What a task that was killed has left behind, though it had done what mattered."""
        self.store.finish()
        if os.path.lexists(self.work.dir):
            with self._locked():
                remove_tree(self.work.dir)

    def _locked(self) -> t.ContextManager[t.Any]:
        verb = "remove" if self.request.state == "absent" else "make"
        return self.store.locked(self.request.name, f"{verb} the image {self.request.name}", float(self.call.options.get("lock_timeout", 60)))

    # --- steps ----------------------------------------------------------------------------------------
    def _remove(self, observed: Observed) -> None:
        if observed.image is not None and observed.image.kind == "kernel" and not observed.users:
            kernels.remove_all(self.store.layout, self.request.name)
        self.store.remove(self.request.name)

    def _make(self, observed: Observed) -> None:
        self.store.make_work(self.request.name)
        self._clear(keep=(PART, NOTE))
        try:
            image = self._adopt(observed, observed.equal) if observed.equal is not None else self._from_source(observed)
            if image.kind == "kernel" and not image.facts.get("published"):
                raise NotFound(f"The kernel {image.name} was not published. Run the task again with force: true.")
        except _RESUMABLE:
            self._clear(keep=(PART, NOTE))
            raise
        except VmcpError:
            self._clear()
            raise
        self._clear()

    def _clear(self, keep: t.Collection[str] = ()) -> None:
        """What is under way, but for what another run can go on with."""
        left = [name for name in os.listdir(self.work.dir) if name not in keep]
        for name in left:
            remove_tree(self.work.path(name), sync=False)
        if not keep:
            remove_tree(self.work.dir, sync=False)

    def _from_source(self, observed: Observed) -> Image:
        acquired = acquire(self.request, self.work)
        made_by = recipe(self.request, acquired.digest, observed.fingerprint.get("added") or {})
        equal = None if self.request.force else self.store.by_recipe(made_by)
        if equal is not None:
            return self._adopt(observed, equal, acquired)
        built = build(self.request, acquired, self.work)
        size = os.path.getsize(built.path)
        digest = digest_file(built.path, self.work.beat("reading what was made", size))
        facts = {**built.facts, **self._publish_kernel(built, acquired, digest)}
        image = Image(
            name=self.request.name,
            kind=self.request.kind,
            digest=digest,
            format=built.format,
            size_bytes=built.size_bytes,
            path="",
            source=self._source(observed, acquired.digest, acquired.origin, acquired.checked),
            facts=facts,
            recipe=made_by,
            created=_now(),
        )
        return self.store.publish(image, built.path)

    def _adopt(self, observed: Observed, equal: Image, acquired: t.Optional[Acquired] = None) -> Image:
        """The same source made into the same: only the name is new."""
        origin = acquired.origin if acquired else equal.source.get("origin") or {}
        checked = acquired.checked if acquired else str(equal.source.get("checksum") or "")
        source = self._source(observed, str(equal.source.get("digest")), origin, checked)
        facts = dict(equal.facts)
        if equal.kind == "kernel" and equal.name != self.request.name:
            files = kernels.files_of(str(equal.facts.get("published")))
            facts.update(self._publish(str(facts.get("version")), equal.digest, files, kernels.modules_of(str(equal.facts.get("published")))))
        return self.store.publish(dataclasses.replace(equal, name=self.request.name, source=source, facts=facts, created=_now(), extra={}), None)

    def _source(self, observed: Observed, digest: str, origin: t.Mapping[str, str], checked: str) -> dict[str, t.Any]:
        request = self.request
        body: dict[str, t.Any] = {"type": request.source_type, "source": request.source, "digest": digest, "origin": dict(origin)}
        # Of another algorithm than the digest; that one needs no second record.
        if checked not in ("", digest):
            body["checksum"] = checked
        return {**body, "given": request.given(), "fingerprint": dict(observed.fingerprint)}

    def _publish_kernel(self, built: Built, acquired: Acquired, digest: str) -> dict[str, t.Any]:
        if self.request.kind != "kernel":
            return {}
        files = {kernels.file_name(built.format): built.path}
        if built.original:
            files.setdefault("vmlinuz", built.original)
        package = acquired.package
        if package is not None and package.config:
            files["config"] = package.config
        return self._publish(str(built.facts.get("version")), digest, files, package.modules if package else "")

    def _publish(self, version: str, digest: str, files: t.Mapping[str, str], modules: str) -> dict[str, t.Any]:
        version = kernels.directory_name(version, digest)
        directory = kernels.publish(self.store.layout, self.request.name, version, digest, files, modules)
        return {"published": directory, "kernel_path": f"{directory}/{next(iter(files))}"}

    # --- result ---------------------------------------------------------------------------------------
    def _outcome(self, plan: ImagePlan, image: t.Optional[Image]) -> Outcome:
        result: dict[str, t.Any] = {"changed": plan.changed, "name": plan.name, "actions": plan.actions, "reason": plan.reason}
        if not self.call.act:
            result["steps"] = [step.as_dict() for step in plan.steps]
        if image is not None:
            result["image"] = shown(image, self.store)
        after = plan.after
        if self.call.act and image is not None and plan.changed:
            after = {**plan.after, "digest": image.digest}
        return Outcome(result, dataclasses.replace(plan, after=after).diff())


def shown(image: Image, store: ImageStore) -> dict[str, t.Any]:
    """An image as results show it: as stored, without what only the next run wants to know."""
    body = image.as_dict()
    source = {key: value for key, value in image.source.items() if key not in ("given", "fingerprint")}
    body.pop("recipe")
    stored = os.stat(image.path).st_blocks * 512 if store.has_content(image) else 0
    return {**body, "source": source, "stored_bytes": stored, "users": store.users(image)}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
