# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a file over HTTP: bounded, retried, gone on with where it was cut off. Standard library only.

Beside the file C(download.part) stands C(download.json), which says of what it is a part. The next run of a task that was killed goes on from there, when
the server says that its file is the same still, or when its checksum is known and will tell.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ...errors import FailedPrecondition, Unavailable, VmcpError
from ...model.image_request import Reach
from ..files import os_errors, read_json, remove, write_plain
from .http import Answer, ask, refusal
from .work import CHUNK_BYTES, Work

PART, NOTE = "download.part", "download.json"
# Between two attempts, doubled each time.
_PAUSE_S, _PAUSE_MAX_S = 0.5, 15.0
_LISTS_MAX_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class Fetched:
    """C(path): the file. C(digest): its SHA-256. C(checked): by the algorithm of the checksum that was expected.
    C(origin): what the server said of it (C(etag), C(last_modified)), to ask later whether it is another one."""

    path: str
    digest: str
    checked: str
    size: int
    origin: t.Mapping[str, str]


class CutOff(Exception):
    """An attempt failed in a way that another may not. Its text says how."""


def fetch(url: str, reach: Reach, work: Work, expected: str = "") -> Fetched:
    """The whole file below C(work.dir). C(expected): C(sha256:HEX) or C(sha512:HEX) that it must have; a file that has another is removed.

    FailedPrecondition for a wrong checksum or a file over max_size, NotFound for a file that is not there, Unavailable after all attempts."""
    download = _Download(url, reach, work, expected)
    failures: list[str] = []
    while True:
        try:
            fetched = download.attempt()
        except CutOff as exc:
            failures.append(str(exc))
            if len(failures) > reach.retries:
                raise Unavailable(
                    f"{url} could not be fetched in {len(failures)} attempts; the last: {failures[-1]}. Run the task again: it goes on where it was cut off.",
                    details={"attempts": failures},
                ) from None
            _pause(len(failures), work, url)
            continue
        if expected and fetched.checked != expected:
            download.forget()
            if download.was_resumed:
                # The parts may be of two files. One whole one will tell.
                download.was_resumed = False
                continue
            raise FailedPrecondition(
                f"{url} has the checksum {fetched.checked}, not {expected} as asked for, and was removed. Correct 'checksum', or look at who serves that file.",
                details={"expected": expected, "actual": fetched.checked, "size_bytes": fetched.size},
            )
        return fetched


def fetch_text(url: str, reach: Reach, work: Work) -> str:
    """A small text: a list of checksums."""
    failures = 0
    while True:
        try:
            with ask(url, reach, work, {}) as answer:
                if answer.status != 200:
                    raise refusal(url, answer)
                body = b""
                while chunk := answer.read(CHUNK_BYTES):
                    body += chunk
                    if len(body) > _LISTS_MAX_BYTES:
                        raise FailedPrecondition(f"{url} is no list of checksums: it is longer than {_LISTS_MAX_BYTES} bytes.")
                return body.decode("utf-8", "replace")
        except (OSError, http.client.HTTPException, CutOff, Unavailable) as exc:
            failures += 1
            if failures > reach.retries:
                raise exc if isinstance(exc, VmcpError) else Unavailable(f"{url} could not be fetched: {exc}. Run the task again.") from None
            _pause(failures, work, url)


class _Download:
    def __init__(self, url: str, reach: Reach, work: Work, expected: str) -> None:
        self.url, self.reach, self.work, self.expected = url, reach, work, expected
        self.part, self.note = work.path(PART), work.path(NOTE)
        self.was_resumed = False
        self._known = self._read_note()

    def _read_note(self) -> dict[str, str]:
        """What is known of the part that is there; {} when it is of something else, or not to be gone on with."""
        try:
            note = read_json(self.note)
        except (FileNotFoundError, VmcpError):
            note = {}
        if not isinstance(note, dict) or note.get("url") != self.url or note.get("expected", "") != self.expected:
            self.forget()
            return {}
        return {key: value for key, value in note.items() if isinstance(value, str)}

    def forget(self) -> None:
        remove(self.part)
        remove(self.note)
        self._known = {}

    def attempt(self) -> Fetched:
        """CutOff when it may be tried again."""
        fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            return self._attempt(fd)
        except (OSError, http.client.HTTPException, Unavailable) as exc:
            raise CutOff(_sentence(exc)) from exc
        finally:
            os.close(fd)

    def _attempt(self, fd: int) -> Fetched:
        start = os.fstat(fd).st_size
        validator = self._known.get("etag") if not self._known.get("etag", "W/").startswith("W/") else self._known.get("last_modified")
        if start and not (validator or self.expected):
            start = 0
        headers = {"Range": f"bytes={start}-", **({"If-Range": validator} if validator else {})} if start else {}
        with ask(self.url, self.reach, self.work, headers) as answer:
            start = self._begin(answer, start)
            os.ftruncate(fd, start)
            total = answer.total(start)
            if total is not None:
                self.work.refuse_over(total, self.url)
                self.work.require_room(total - start, self.url)
            self._known = answer.origin
            with os_errors(f"write {self.note}"):
                write_plain(self.note, json.dumps({"url": self.url, "expected": self.expected, **answer.origin}) + "\n")
            digests, size = self._receive(fd, answer, start, total)
        if total is not None and size < total:
            raise CutOff(f"the server sent {size} of {total} bytes")
        with os_errors(f"write {self.part}"):
            os.fsync(fd)
        return Fetched(self.part, digests[0], digests[-1], size, answer.origin)

    def _begin(self, answer: Answer, asked: int) -> int:
        """From where the answer goes on. Raises for what is no answer to build on."""
        if answer.status == 200:
            return 0
        if answer.status == 206 and asked and answer.range_start() == asked:
            self.was_resumed = True
            return asked
        if answer.status in (206, 416) and asked:
            # The part is no part of what is there now.
            self.forget()
            raise CutOff(f"the server does not go on at byte {asked}")
        raise refusal(self.url, answer)

    def _receive(self, fd: int, answer: Answer, start: int, total: t.Optional[int]) -> tuple[list[str], int]:
        """Digests (SHA-256 first), and the file's length."""
        hashers = [hashlib.new(name) for name in dict.fromkeys(("sha256", self.expected.partition(":")[0] or "sha256"))]
        beat = self.work.beat(f"fetching {self.url}", total or 0)
        position = 0
        while position < start:
            chunk = os.pread(fd, CHUNK_BYTES, position)
            for hasher in hashers:
                hasher.update(chunk)
            position += len(chunk)
            beat(position)
        while chunk := answer.read(CHUNK_BYTES):
            self.work.refuse_over(position + len(chunk), self.url)
            with os_errors(f"write {self.part}"):
                _write(fd, chunk, position)
            for hasher in hashers:
                hasher.update(chunk)
            position += len(chunk)
            beat(position)
        return [f"{hasher.name}:{hasher.hexdigest()}" for hasher in hashers], position


def _write(fd: int, chunk: bytes, position: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written


def _pause(failures: int, work: Work, url: str) -> None:
    time.sleep(min(_PAUSE_S * 2 ** (failures - 1), _PAUSE_MAX_S, work.left_s(f"fetching {url}")))


def _sentence(exc: Exception) -> str:
    if isinstance(exc, http.client.IncompleteRead):
        return "the connection was cut"
    reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    return str(reason) or type(reason).__name__


def base_name(url: str) -> str:
    """The file's name in a URL."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
