# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the capability matrix: what each backend can do, since which version, and where its limits are."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.catalogue import capabilities_of
from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.matrix import IGNORED, INERT, SUPPORTED, Capabilities, Limit, Periods
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.plugins.module_utils.model.units import format_size
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import BACKENDS

_TOP = """<!--
Copyright (c) 2026 unkey.vmcp contributors
SPDX-License-Identifier: GPL-3.0-or-later
Written by tools/generate.py from the backends' features.py: do not edit.
-->
# What each backend can do

One configuration runs on every backend that can honour it. Before anything happens it is checked against this matrix, in check mode too, for the
version that is installed on the host; the playbook `unkey.vmcp.validate` does the same [without a host](validate.md).

- **yes**: supported; with a version, since that one. Options at their defaults ask for nothing and are accepted everywhere.
- **ignored**: accepted and left out of account. The task warns, and lists it in `ignored`.
- **no**: refused, with the option's path and the backends that could.
- **no effect**: accepted, and not reported: what is in `backend_options` of another backend was written for that backend.
"""
_SECTIONS = {
    "cpu": "Processors",
    "memory": "Memory",
    "boot": "Boot",
    "storage": "Disks",
    "network": "Network interfaces",
    "console": "Console",
    "rng": "Entropy",
    "vsock": "Vsock",
    "watchdog": "Watchdog",
    "backend_options": "Options of one backend",
}
_BESIDE = (
    "metadata",
    "cloud_init=nocloud",
    "cloud_init=mmds",
    "restart_policy.on_reboot=restart",
    "restart_policy.on_reboot=stop",
    "restart_policy.on_crash",
    "restart_policy.max_per_hour",
    "security.jail=true",
    "security.jail=false",
)
_ABILITIES = {
    "best_for": "Best for",
    "accelerator": "Runs on",
    "resize_cpu": "Virtual CPUs added to a running VM",
    "resize_memory": "Memory added to a running VM",
    "hotplug": "Disks and interfaces plugged into a running VM",
    "shutdown": "Asks the guest to shut down by",
    "reboot": "A guest's reboot",
    "snapshots": "Snapshots of the VMM",
    "sandbox": "Sandbox",
    "density": "VMs on a host (published)",
    "cold_start": "Cold start (published)",
    "overhead": "Memory overhead of a VM (published)",
}


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[str, ...]
    notes: tuple[tuple[str, str, str], ...]  # title of the backend, text, the key that it is said of


def render_matrix_page() -> str:
    backends = [capabilities_of(backend) for backend in BACKENDS]
    lines = [_TOP]
    for name, title in _SECTIONS.items():
        lines += [f"## {title}", "", *_table(_rows({name: SHAPE[name]}, "", backends), backends)]
    lines += ["## Beside the configuration", "", *_table([_row(key, backends) for key in _BESIDE], backends)]
    lines += _limits(backends)
    lines += _rules(backends)
    lines += ["## At a glance", "", _line("", *(can.title for can in backends)), _line("---", *("---" for can in backends))]
    lines += [_line(text, *(can.abilities[key] for can in backends)) for key, text in _ABILITIES.items()]
    lines += ["", "Published figures are those of the support matrix; nobody measured them for your host."]
    return "\n".join(lines) + "\n"


def _rows(shape: t.Mapping[str, t.Any], prefix: str, backends: t.Sequence[Capabilities]) -> list[Row]:
    rows: list[Row] = []
    for name, node in shape.items():
        key = f"{prefix}{name}"
        if node["kind"] == "leaf":
            rows += [_row(word, backends) for word in _words(key, backends)]
            continue
        below = _rows(node["fields"], f"{key}[]." if node["kind"] == "list" else f"{key}.", backends)
        alike = len(below) > 1 and len({(row.cells, row.notes) for row in below}) == 1
        rows += [Row(key, below[0].cells, below[0].notes)] if alike and prefix else below
    return rows


def _words(key: str, backends: t.Sequence[Capabilities]) -> list[str]:
    """The key itself, or one for each value that some backend tells apart."""
    found = [word for can in backends for word in can.support if word.startswith(f"{key}=")]
    return list(dict.fromkeys(found)) or [key]


def _row(key: str, backends: t.Sequence[Capabilities]) -> Row:
    cells, notes = [], []
    for can in backends:
        said_of, periods = _periods(can, key)
        cells.append(", ".join(_cell(periods)))
        notes += [(can.title, support.reason or support.note, said_of) for support in periods if support.reason or support.note]
    return Row(key, tuple(cells), tuple(notes))


def _periods(can: Capabilities, key: str) -> tuple[str, Periods]:
    """Of the key, of its option, or of the nearest part of the tree that speaks for it, which is the first of the pair."""
    option = key.split("=", maxsplit=1)[0]
    while key not in can.support:
        key = option if key != option else option.rpartition(".")[0].removesuffix("[]")
        option = key
    return key, can.support[key]


def _cell(periods: Periods) -> t.Iterator[str]:
    for support in periods:
        word = {SUPPORTED: "yes", IGNORED: "ignored", INERT: "no effect"}.get(support.level, "no")
        if support.level == SUPPORTED and support.since:
            word = f"since {support.since}"
        yield f"{word} before {support.until}" if support.until else word


def _table(rows: t.Sequence[Row], backends: t.Sequence[Capabilities]) -> list[str]:
    lines = [_line("Option", *(can.title for can in backends)), _line("---", *("---" for can in backends))]
    lines += [_line(_code(row.name), *row.cells) for row in rows]
    notes: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for title, text, said_of in row.notes:
            names = notes.setdefault((title, text), [])
            if said_of not in names:
                names.append(said_of)
    lines.append("")
    lines += [f"- {', '.join(_code(name) for name in names)} on {title}: {text}." for (title, text), names in notes.items()]
    return [*lines, ""] if notes else lines


def _limits(backends: t.Sequence[Capabilities]) -> t.Iterator[str]:
    yield "## Limits"
    yield ""
    yield "Beyond an enforced limit a configuration is refused. A published one is a figure of the support matrix that the VMM does not enforce:"
    yield "beyond it, a notice."
    yield ""
    yield _line("Backend", "What", "Least", "Most", "Kind", "Versions")
    yield _line(*("---" for _column in range(6)))
    for can in backends:
        for limit in can.limits:
            versions = f"since {limit.since}" if limit.since else f"before {limit.until}" if limit.until else "all"
            kind = "published" if limit.published else f"enforced ({limit.note})" if limit.note else "enforced"
            yield _line(
                can.title,
                f"`{limit.measure}`" if "." in limit.measure else limit.measure,
                _amount(limit, limit.least),
                _amount(limit, limit.most),
                kind,
                versions,
            )
    yield ""


def _amount(limit: Limit, value: int | None) -> str:
    if value is None:
        return "none"
    return format_size(value) if "bytes" in limit.measure else str(value)


def _rules(backends: t.Sequence[Capabilities]) -> t.Iterator[str]:
    yield "## Rules between values"
    yield ""
    for can in backends:
        for rule in can.rules:
            period = f" (since {rule.since})" if rule.since else ""
            yield f"- {can.title}{period}: {rule.title}{' A notice.' if rule.notice else ''}"
    yield ""


def _code(key: str) -> str:
    return f"`{key.replace('=', ': ')}`"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
