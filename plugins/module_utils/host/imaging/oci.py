# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images: an OCI layout (https://github.com/opencontainers/image-spec) unpacked layer by layer; other transports are made one by skopeo.

Layers are unpacked here and not by umoci, because sizes have to be bounded while that goes on, and names checked as those of any other archive. By whom:
see C(rootfs).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import stat
import typing as t

from ...errors import FailedPrecondition, Internal, NotFound
from ...model.image_request import Reach
from ..files import os_errors
from ..images import digest_file
from . import archive, tools
from .http import proxy_environ
from .tree import Tree
from .work import Source, SparseWriter, Work

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DOCUMENT_MAX_BYTES = 8 << 20
_REF_NAME = "org.opencontainers.image.ref.name"
_LAYER = re.compile(r".*(layer|rootfs\.diff)\S*tar(\+(gzip|zstd)|\.gzip)?$")
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_POLICY = "/etc/containers/policy.json"
_LOGIN = ("HOME", "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE")


class ContainerImage(t.NamedTuple):
    """C(digest): of its manifest. C(layers): paths. C(config): what the image runs (C(Entrypoint), C(Cmd), C(Env), C(WorkingDir), C(User))."""

    digest: str
    layers: tuple[str, ...]
    config: t.Mapping[str, t.Any]


def bring(reference: str, reach: Reach, work: Work) -> tuple[str, str]:
    """C((layout, tag)): the directory of an OCI layout on the host, and which image in it."""
    transport, _colon, rest = reference.partition(":")
    if transport == "oci":
        return split(rest)
    if transport == "oci-archive":
        path, tag = split(rest)
        layout = work.path("layout")
        _unpack_layout(path, layout, work, reference)
        return layout, tag
    layout = work.path("layout")
    # No layer may be larger; what they are together is looked at before they are unpacked.
    argv, limits = _skopeo(reach, "copy", reference, f"oci:{layout}:image"), tools.Limits(file=work.max_size)
    tools.run(argv, work, f"fetching {reference}", limits=limits, environ=_environ(reach))
    blobs = f"{layout}/blobs/sha256"
    work.refuse_over(sum(os.path.getsize(f"{blobs}/{name}") for name in os.listdir(blobs)), reference)
    return layout, "image"


def remote_digest(reference: str, reach: Reach, work: Work) -> str:
    """The digest of what a registry has under that name now."""
    raw = tools.run(_skopeo(reach, "inspect", "--raw", reference), work, f"looking at {reference}", environ=_environ(reach))
    return f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"


def _skopeo(reach: Reach, verb: str, *arguments: str) -> list[str]:
    policy = [] if os.path.exists(_POLICY) else ["--insecure-policy"]
    tls = [] if reach.validate_certs else ["--src-tls-verify=false" if verb == "copy" else "--tls-verify=false"]
    auth = [f"--authfile={reach.authfile}"] if reach.authfile else []
    retries = ["--retry-times", str(reach.retries)]
    return ["skopeo", *policy, "--override-os", "linux", verb, *retries, *tls, *auth, *arguments]


def _environ(reach: Reach) -> dict[str, str]:
    """The way to the registry, and where C(skopeo login) has left its credentials."""
    return {**proxy_environ(reach), **{name: os.environ[name] for name in _LOGIN if name in os.environ}}


def split(rest: str) -> tuple[str, str]:
    """C(/path:tag) as path and tag; the tag may be missing."""
    path, colon, tag = rest.rpartition(":")
    return (path, tag) if colon and "/" not in tag else (rest, "")


def read(layout: str, tag: str, what: str) -> ContainerImage:
    """FailedPrecondition for what is no layout, NotFound for a tag or an architecture that it lacks."""
    try:
        index = _document(f"{layout}/index.json", what)
    except FileNotFoundError:
        raise NotFound(f"{what}: {layout} is no OCI layout: it has no index.json. Make one with 'skopeo copy … oci:{layout}:TAG'.") from None
    descriptor = _choose(index.get("manifests") or [], tag, what)
    while True:
        manifest = _blob_document(layout, descriptor, what)
        if "manifests" not in manifest:
            break
        descriptor = _choose(manifest["manifests"], "", what)
    layers = []
    for layer in manifest.get("layers") or []:
        if not _LAYER.fullmatch(str(layer.get("mediaType", ""))):
            raise FailedPrecondition(f"{what} has a layer of the type {layer.get('mediaType')!r:.80}, which is no tar archive.")
        layers.append(_blob(layout, layer, what))
    if not layers:
        raise FailedPrecondition(f"{what} has no layers, so it holds no files.")
    config = _blob_document(layout, manifest.get("config") or {}, what)
    return ContainerImage(str(descriptor.get("digest")), tuple(layers), config.get("config") or {})


def _choose(manifests: t.Sequence[t.Mapping[str, t.Any]], tag: str, what: str) -> t.Mapping[str, t.Any]:
    if tag:
        manifests = [entry for entry in manifests if (entry.get("annotations") or {}).get(_REF_NAME) == tag or entry.get("digest") == tag]
        if not manifests:
            raise NotFound(f"{what}: there is no image {tag!r} in it. Name a tag that it has.")
    machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
    fitting = [entry for entry in manifests if _is_for(entry.get("platform") or {}, machine)]
    if not fitting:
        raise NotFound(f"{what} has no image for {machine}.")
    if len(fitting) > 1 and not tag and len({entry.get("digest") for entry in fitting}) > 1:
        tags = sorted(str((entry.get("annotations") or {}).get(_REF_NAME)) for entry in fitting)
        raise FailedPrecondition(f"{what} holds several images ({', '.join(tags)}). Add :TAG.")
    return fitting[0]


def _is_for(where: t.Mapping[str, t.Any], machine: str) -> bool:
    # "unknown": attestations, which registries keep beside images.
    return where.get("architecture", machine) == machine and where.get("os", "linux") == "linux"


def _blob(layout: str, descriptor: t.Mapping[str, t.Any], what: str) -> str:
    match = _DIGEST.fullmatch(str(descriptor.get("digest", "")))
    if match is None:
        raise FailedPrecondition(f"{what} names a part by {descriptor.get('digest')!r:.100}, which is no SHA-256 digest.")
    path = f"{layout}/blobs/sha256/{match[1]}"
    if not os.path.isfile(path):
        raise FailedPrecondition(f"{what} lacks its part {match[0]}. Copy the image again.")
    return path


def _blob_document(layout: str, descriptor: t.Mapping[str, t.Any], what: str) -> dict[str, t.Any]:
    path = _blob(layout, descriptor, what)
    body = _document(path, what)
    check_blob(path, what)
    return body


def check_blob(path: str, what: str) -> None:
    """FailedPrecondition for a part that is not what its name says."""
    digest = digest_file(path)
    if digest != f"sha256:{os.path.basename(path)}":
        raise FailedPrecondition(f"{what} is damaged: its part sha256:{os.path.basename(path)} has the digest {digest}. Copy the image again.")


def _document(path: str, what: str) -> dict[str, t.Any]:
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        raw = stream.read(_DOCUMENT_MAX_BYTES + 1)
    try:
        body = json.loads(raw) if len(raw) <= _DOCUMENT_MAX_BYTES else None
    except (ValueError, RecursionError) as exc:
        raise FailedPrecondition(f"{what} is damaged: {path} is no JSON document ({exc}).") from exc
    if not isinstance(body, dict):
        raise FailedPrecondition(f"{what} is damaged: {path} is no JSON object.")
    return body


def _unpack_layout(path: str, layout: str, work: Work, what: str) -> None:
    """Only what a layout has: plain files, by names of its own."""
    total = 0
    with os_errors(f"make {layout}"):
        os.makedirs(f"{layout}/blobs/sha256", mode=0o700, exist_ok=True)
    with archive.opened(path, work, what) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isreg() and (name in ("index.json", "oci-layout") or re.fullmatch(r"blobs/sha256/[0-9a-f]{64}", name)):
                total += member.size
                work.refuse_over(total, what)
                source = tar.extractfile(member)
                if source is None:
                    raise Internal(f"An entry of {what} that is a regular file has no content.")
                with SparseWriter(f"{layout}/{name}", work, what) as out:
                    while chunk := source.read(1 << 20):
                        out.write(chunk)
            archive.forget(tar)


def check(image: ContainerImage, what: str) -> None:
    """FailedPrecondition for a layer that is not what its name says."""
    for path in image.layers:
        check_blob(path, what)


def unpack(layers: t.Iterable[Source], tree: Tree, work: Work, what: str) -> None:
    """The layers, from the lowest, each over the one before. Whether they are what they are called, C(check) has seen."""
    for layer in layers:
        _apply(layer, tree, work, what)
    tree.finish()


def _apply(path: Source, tree: Tree, work: Work, what: str) -> None:
    # An opaque mark hides what lower layers have in that directory, and not what this one brings before it or after it.
    made: set[str] = set()
    with archive.opened(path, work, what) as tar:
        for member in tar:
            parts = tree.parts(member.name)
            base = parts[-1] if parts else ""
            if base == _OPAQUE:
                _hide_below(tree, parts[:-1], made)
            elif base.startswith(_WHITEOUT):
                hidden = base[len(_WHITEOUT) :]
                if hidden in ("", ".", ".."):
                    raise FailedPrecondition(f"{what} hides an entry that cannot be ({member.name!r:.100}), so it is refused.")
                tree.remove([*parts[:-1], hidden])
            else:
                made.add(tree.add(member, tar))
            archive.forget(tar)


def _hide_below(tree: Tree, parts: t.Sequence[str], made: t.Collection[str]) -> None:
    try:
        directory = tree.resolve(parts)
    except (FileNotFoundError, NotADirectoryError):
        return
    tree.forget_nodes(directory, but=made)
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if path in made:
            continue
        if stat.S_ISDIR(os.lstat(path).st_mode) and any(other.startswith(f"{path}/") for other in made):
            _hide_below(tree, [part for part in path[len(tree.root) :].split("/") if part], made)
        else:
            tree.remove([part for part in path[len(tree.root) :].split("/") if part])
