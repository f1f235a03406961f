# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The no-change path: standard library alone.

A task that found nothing to do, or did all there was, leaves a digest of its options, of the definition and of the collection's version
beside the running VM. The next run with the same digest only has to see that the power is as asked for, by one raw request. It is a cache: whatever does
not match goes the whole way through the model and the planner.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ..host import files
from ..host.layout import VmLayout
from ..host.store import Store
from ..model.words import COLLECTION_VERSION
from ..planner.situation import Situation

# Options that steer one run and say nothing about the VM.
_OF_THE_RUN = ("lock_timeout", "wait_timeout", "state_dir", "run_dir", "allow_disruption", "shutdown_timeout", "keep")
_ENVIRONMENT = ("UNKEY_VMCP_CH_ENDPOINT", "UNKEY_VMCP_FC_ENDPOINT")
SATISFIED_BY = {
    "running": ("running",),
    "paused": ("paused",),
    "present": ("running", "paused", "created", "shutdown", "crashed"),
    "shutdown": ("created", "shutdown", "crashed"),
}


def fingerprint(options: t.Mapping[str, t.Any], environ: t.Mapping[str, str], vm: VmLayout) -> t.Optional[str]:
    """Digest of what was asked and of what is stored; None when nothing is stored or the request can never be without effect."""
    if options.get("endpoint") or options.get("state") not in SATISFIED_BY:
        return None
    try:
        stored = files.read_bytes(vm.definition)
    except FileNotFoundError:
        return None
    asked = {k: v for k, v in options.items() if k not in _OF_THE_RUN}
    text = json.dumps([COLLECTION_VERSION, asked, {k: environ[k] for k in _ENVIRONMENT if k in environ}], sort_keys=True, default=str)
    return hashlib.sha256(text.encode() + b"\0" + stored).hexdigest()


def confirm(
    store: Store, name: str, digest: str, state: str, waits: bool, look_at: t.Callable[[], t.Callable[[], Situation]]
) -> t.Callable[[], t.Optional[tuple[Situation, dict[str, t.Any]]]]:
    """In two steps, as C(look_at), which is asked only when the digest matches. What is returned gives the situation and what was kept of the last result,
    when nothing is to be done; None when the whole way must be gone. With C(waits), the conditions must have been met in this very boot."""
    kept = store.satisfied(name)
    if not kept or kept.get("digest") != digest:
        return lambda: None
    known, seen = kept, look_at()

    def confirmed() -> t.Optional[tuple[Situation, dict[str, t.Any]]]:
        found = seen()
        return (found, known) if _holds(found, known, state, waits) else None

    return confirmed


def _holds(found: Situation, kept: t.Mapping[str, t.Any], state: str, waits: bool) -> bool:
    definition = found.definition
    if definition is None or found.unresponsive or found.booted_unread or found.interrupted or found.state not in SATISFIED_BY[state]:
        return False
    if waits and (found.process is None or kept.get("boot_id") != found.process.boot_id):
        return False
    return not (found.autostart is not None and definition.supervisor == "systemd" and found.autostart != definition.autostart)


def remember(store: Store, name: str, digest: t.Optional[str], boot_id: t.Optional[str], kept: t.Mapping[str, t.Any]) -> None:
    """Keeps what the next run needs to answer without thinking. C(digest) is of the options and of vm.json as it is now."""
    if digest is not None:
        store.save_satisfied(name, {"digest": digest, "boot_id": boot_id, **kept})
