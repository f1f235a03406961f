# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a C(vmcp_image) task, checked whole: all that is wrong is said at once. Standard library only, pure."""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from ..errors import InvalidArgument, Violation
from .image_additions import read_additions
from .image_request import Checksum, ImageRequest, Reach, Upload
from .image_words import CONTAINER_TRANSPORTS, DISK_SOURCE_FORMATS, FORMATS_OF, SOURCES, SOURCES_OF
from .units import GIB, parse_size
from .words import NAME_PATTERN, name_rule

MAX_SIZE = 64 * GIB
_HEX = re.compile(r"[0-9a-f]{64}")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_PACKAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9+._~-]{0,200}")
_LABEL_MAX = 16


def read_image_request(options: t.Mapping[str, t.Any]) -> ImageRequest:
    """InvalidArgument with all violations. C(options): those left out are absent."""
    reader = _Reader(options)
    request = reader.read()
    if reader.violations:
        raise InvalidArgument.of(reader.violations)
    return request


class _Reader:
    def __init__(self, options: t.Mapping[str, t.Any]) -> None:
        self.options = options
        self.violations: list[Violation] = []
        self.kind = str(options.get("kind", "disk"))

    def wrong(self, field: str, message: str) -> None:
        self.violations.append(Violation(field, message))

    def read(self) -> ImageRequest:
        options = self.options
        name = str(options.get("name", ""))
        if not re.fullmatch(NAME_PATTERN, name):
            self.wrong("name", f"must be {name_rule(name)}")
        state = str(options.get("state", "present"))
        source_type, source = self._source(state)
        additions, problems = read_additions(options)
        self.violations += problems
        self._only_for_rootfs()
        return ImageRequest(
            name=name,
            state=state,
            kind=self.kind,
            source_type=source_type,
            source=source,
            checksum=self._checksum(source_type),
            format=self._format(),
            source_format=self._source_format(),
            unpack=bool(options.get("unpack", self.kind != "initrd")),
            max_size=self._size("max_size") or MAX_SIZE,
            filesystem=str(options.get("filesystem", "ext4")),
            size=self._size("size"),
            label=self._label(),
            additions=additions,
            reach=self._reach(),
            refresh=bool(options.get("refresh", False)),
            force=bool(options.get("force", False)),
            upload=self._upload(source_type, state),
        )

    def _source(self, state: str) -> tuple[str, str]:
        given = [key for key in SOURCES if self.options.get(key)]
        allowed = SOURCES_OF.get(self.kind, SOURCES)
        if state == "absent":
            return "", ""
        if len(given) != 1:
            what = f"{' and '.join(given)} are given" if given else "nothing is given"
            self.wrong(given[1] if given else "url", f"{what}: say by exactly one of {', '.join(allowed)} where the {self.kind} comes from")
            return "", ""
        key = given[0]
        if key not in allowed:
            self.wrong(key, f"cannot be where a {self.kind} comes from. Use {', '.join(allowed)}, or another kind.")
        value = str(self.options[key])
        if "\0" in value or "\n" in value:
            self.wrong(key, "contains a NUL or a newline character")
            return key, value
        return getattr(self, f"_{key}")(value)

    def _url(self, value: str) -> tuple[str, str]:
        try:
            parts = urllib.parse.urlsplit(value)
            port = parts.port
        except ValueError as exc:
            self.wrong("url", f"is no URL: {exc}")
            return "url", value
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
                self.wrong("url", "must name a file of this host: file:///path")
            return "path", urllib.parse.unquote(parts.path)
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            self.wrong("url", "must be an http, https or file URL")
        elif parts.username or parts.password:
            self.wrong("url", "carries a password, which would be recorded and shown. Give it as an Authorization header in 'headers'.")
        elif not value.isascii() or " " in value:
            self.wrong("url", "has characters that a URL cannot have. Encode them with the filter urlencode.")
        return "url", value

    def _path(self, value: str) -> tuple[str, str]:
        if not value.startswith("/"):
            self.wrong("path", "must be an absolute path on the host. For a file of the controller use 'src'.")
        return "path", value

    @staticmethod
    def _src(value: str) -> tuple[str, str]:
        return "src", value

    def _container(self, value: str) -> tuple[str, str]:
        if not value.startswith(CONTAINER_TRANSPORTS) or value in CONTAINER_TRANSPORTS:
            self.wrong("container", "must be docker://NAME[:TAG], oci:/DIRECTORY[:TAG] or oci-archive:/FILE[:TAG]")
        elif value.startswith(CONTAINER_TRANSPORTS[1:]) and not value.partition(":")[2].startswith("/"):
            self.wrong("container", "must name an absolute path on the host")
        return "container", value

    def _package(self, value: str) -> tuple[str, str]:
        if not _PACKAGE.fullmatch(value):
            self.wrong("package", "must be the name of a package of the distribution, such as linux-image-cloud-amd64")
        return "package", value

    def _checksum(self, source_type: str) -> Checksum:
        value = self.options.get("checksum")
        if not value:
            return Checksum()
        text = str(value)
        bare = text.removeprefix("sha256:").removeprefix("sha512:")
        if bare.startswith(("http://", "https://", "file:///")):
            if source_type not in ("url", "path"):
                self.wrong("checksum", "can be the URL of a list only for a file that comes from a URL or a path")
            return Checksum(url=bare)
        if not _CHECKSUM.fullmatch(text.lower()):
            self.wrong("checksum", "must be sha256: and 64 hexadecimal digits, sha512: and 128, or the URL of a list of such checksums")
        if source_type in ("container", "package"):
            self.wrong("checksum", "does not apply: a container image is named by its digest (NAME@sha256:…), a package's is checked by the package manager")
        return Checksum(digest=text.lower())

    def _format(self) -> str:
        allowed = FORMATS_OF.get(self.kind, ("raw",))
        value = str(self.options.get("format") or allowed[0])
        if value not in allowed:
            self.wrong("format", f"must be {' or '.join(allowed)} for a {self.kind}")
        return value

    def _source_format(self) -> str:
        value = str(self.options.get("source_format") or "")
        if value and self.kind != "disk":
            self.wrong("source_format", "applies to disks only")
        elif value and value not in DISK_SOURCE_FORMATS:
            self.wrong("source_format", f"must be one of {', '.join(DISK_SOURCE_FORMATS)}")
        return value

    def _size(self, field: str) -> t.Optional[int]:
        value = self.options.get(field)
        if value is None:
            return None
        try:
            size = parse_size(int(value) if isinstance(value, str) and value.isdigit() else value)
        except ValueError as exc:
            self.wrong(field, str(exc))
            return None
        if size < 1:
            self.wrong(field, "must be more than nothing")
        return size

    def _label(self) -> str:
        label = str(self.options.get("label") or "")
        if len(label.encode()) > _LABEL_MAX or not label.isprintable():
            self.wrong("label", f"must be at most {_LABEL_MAX} bytes of printable characters")
        return label

    def _only_for_rootfs(self) -> None:
        if self.kind != "rootfs":
            for field in ("filesystem", "size", "label", "init", "files", "hostname", "ssh_keys"):
                if self.options.get(field):
                    self.wrong(field, "applies to kind: rootfs only, which is made from a tree")
        elif self.options.get("filesystem") == "squashfs":
            for field in ("size", "label"):
                if self.options.get(field):
                    self.wrong(field, "does not apply to squashfs, which is as large as its content and has no label")

    def _reach(self) -> Reach:
        options = self.options
        headers = options.get("headers") or {}
        for key, value in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", str(key)) or re.search(r"[\r\n\0]", str(value)):
                self.wrong("headers", f"{str(key)!r:.60} is no header")
        proxy = options.get("proxy")
        if proxy and not str(proxy).startswith(("http://", "https://")):
            self.wrong("proxy", "must be the http URL of a proxy")
        for field, least in (("retries", 0), ("idle_timeout", 1), ("timeout", 1)):
            if int(options.get(field, least)) < least:
                self.wrong(field, f"must be at least {least}")
        return Reach(
            proxy=None if proxy is None else str(proxy),
            headers={str(key): str(value) for key, value in headers.items()},
            validate_certs=bool(options.get("validate_certs", True)),
            ca_path=options.get("ca_path"),
            retries=int(options.get("retries", 4)),
            idle_s=int(options.get("idle_timeout", 30)),
            deadline_s=int(options.get("timeout", 3600)),
            authfile=options.get("authfile"),
        )

    def _upload(self, source_type: str, state: str) -> t.Optional[Upload]:
        if source_type != "src" or state == "absent":
            return None
        body = self.options.get("uploaded") or {}
        digest, size = str(body.get("digest", "")), body.get("size", -1)
        if not _HEX.fullmatch(digest.removeprefix("sha256:")) or not str(size).isdigit():
            self.wrong("src", "is a file of the controller, which this collection's action plugin reads: run the task through Ansible, or use 'path'")
            return None
        return Upload(str(body.get("name", "")), int(size), digest, str(body.get("path") or ""))
