# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a root file system of archives, by a process without rights on the host where there can be one; and of a directory of the host's.

Archives come from anywhere. A directory is the host's own, and what it holds may be for root alone to read."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import dataclasses
import lzma
import os
import typing as t
import zlib

from ...errors import FailedPrecondition
from ...model.image_additions import Additions
from ..files import os_errors
from ..trees import remove_tree
from . import apart, archive, dress, filesystem, oci, tools
from .tree import Tree
from .work import Source, Work

# Who has no rights on the host may not be able to load these any more when they are needed: this Python may be in a directory of root's.
_LIBRARIES = (bz2, lzma, zlib)
_ENCODINGS = [codecs.lookup(name) for name in ("ascii", "utf-8", "latin-1")]
_TREE = "tree"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """C(what): how to speak of the source: a C(directory), C(layers) of a container image, or a tar C(archive). C(config): what the container image runs.
    C(size) None: as the content needs. C(seed): see C(filesystem.make_ext4)."""

    what: str
    filesystem: str
    size: t.Optional[int]
    label: str
    seed: str
    additions: Additions
    directory: str = ""
    archive: Source = ""
    layers: tuple[Source, ...] = ()
    config: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


def make(recipe: Recipe, product: str, work: Work) -> dict[str, t.Any]:
    """What is known of the file system, which is C(product) in the work's directory: C(size), C(entries), C(content_bytes), C(skipped), and
    C(unprivileged): whether no right of root's was used."""
    if os.geteuid() != 0:
        raise FailedPrecondition("Owners of files can be kept by root alone. Run the task with become: true.")
    sources = dress.read_sources(recipe.additions)
    if not recipe.directory:
        with contextlib.suppress(apart.CannotError):
            return _make_apart(recipe, sources, product, work)
    try:
        return {**_make(recipe, sources, product, work), "unprivileged": False}
    finally:
        remove_tree(work.path(_TREE))


def _make_apart(recipe: Recipe, sources: t.Mapping[str, bytes], product: str, work: Work) -> dict[str, t.Any]:
    with contextlib.ExitStack() as stack:

        def descriptor(path: Source) -> int:
            with os_errors(f"read {path}"):
                return stack.enter_context(open(path, "rb", buffering=0)).fileno()

        layers = tuple(descriptor(path) for path in recipe.layers)
        given = dataclasses.replace(recipe, layers=layers, archive=descriptor(recipe.archive) if recipe.archive else "")
        fds = (*layers, *([given.archive] if isinstance(given.archive, int) else []))
        said, _path = apart.apart(lambda inside: _make(given, sources, product, inside), work, product, fds)
    return {**said, "unprivileged": True}


def _make(recipe: Recipe, sources: t.Mapping[str, bytes], product: str, work: Work) -> dict[str, t.Any]:
    tree = Tree(work.path(_TREE), work, recipe.what)
    _fill(tree, recipe, work)
    dress.dress(tree, recipe.additions, recipe.config, sources)
    tree.finish()
    inside = {path[len(tree.root) :]: node for path, node in tree.nodes.items()}
    nodes = {path: node for path, node in inside.items() if filesystem.can_be_named(path)}
    target = work.path(product)
    if recipe.filesystem == "ext4":
        size = filesystem.make_ext4(tree.root, target, recipe.size, recipe.label, recipe.seed, work, nodes)
    else:
        size = filesystem.make_squashfs(tree.root, target, work, nodes)
    content, entries = filesystem.measure(tree.root)
    skipped = [*tree.skipped, *sorted(set(inside) - set(nodes))]
    return {"size": size, "entries": entries + len(nodes), "content_bytes": content, "skipped": skipped[:50]}


def _fill(tree: Tree, recipe: Recipe, work: Work) -> None:
    if recipe.layers:
        oci.unpack(recipe.layers, tree, work, recipe.what)
    elif recipe.directory:
        content, _inodes = filesystem.measure(recipe.directory)
        work.refuse_over(content, recipe.what)
        work.require_room(content, recipe.what)
        argv = ["cp", "--archive", "--reflink=auto", "--sparse=always", "--one-file-system", "--", f"{recipe.directory}/.", tree.root]
        tools.run(argv, work, f"copying {recipe.what}")
    else:
        archive.unpack_tree(recipe.archive, tree, work, recipe.what)
