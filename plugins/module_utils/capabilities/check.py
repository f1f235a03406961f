# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backend, in a version, can do what a configuration asks for. Pure; the facts are in the matrix.

What is in C(backend_options) of another backend is neither a violation nor reported as ignored: it was written for that backend, and a
warning at every run about what the user did on purpose would hide the ones that matter.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import Violation
from ..model.rules import overlap
from ..model.short_options import fold_short_options, given_names, options_used
from ..model.task import VmRequest
from ..model.units import format_size
from ..model.validate import read_tree
from ..model.words import BACKENDS
from .catalogue import TITLES, capabilities_of
from .matrix import IGNORED, INERT, SUPPORTED, Capabilities, Limit, Periods, Support, lookup, older
from .subject import CLASSES, Subject, Use, measure, uses

if t.TYPE_CHECKING:
    from ..model.config import VmConfig


@dataclasses.dataclass(frozen=True)
class Verdict:
    """C(violations) stop the task; C(ignored) is what the backend leaves out of account; C(notices) are worth knowing (published figures left behind)."""

    violations: tuple[Violation, ...] = ()
    ignored: tuple[Violation, ...] = ()
    notices: tuple[Violation, ...] = ()


def check(
    config: VmConfig,
    backend: str,
    version: t.Optional[str],
    *,
    request: t.Optional[VmRequest] = None,
    host_kernel_default: bool = False,
    features: t.Sequence[str] = (),
) -> Verdict:
    """The verdict on C(config) and on what C(request) asks beside it. C(version): as installed; None for the newest known.

    C(features): what the installed binary itself reports. C(host_kernel_default): the host has a default kernel for this backend."""
    can = capabilities_of(backend)
    subject = Subject(config, request, host_kernel_default, tuple(features))
    found = _Found(can, version, subject)
    for use in uses(subject):
        found.feature(use)
    for limit in can.limits:
        if limit.holds(version):
            found.limit(limit)
    for rule in can.rules:
        if rule.holds(version):
            kept = found.notices if rule.notice else found.violations
            kept += [Violation(finding.field, finding.message) for finding in rule.find(subject)]
    wrong = {violation.field for violation in found.violations}
    # That something is unusual is no news of what is impossible.
    notices = tuple(notice for notice in found.notices if notice.field not in wrong)
    return Verdict(tuple(found.violations), tuple(found.ignored), notices)


def check_the_rest(task: t.Mapping[str, t.Any], backend: str, version: t.Optional[str], *, host_kernel_default: bool = True) -> list[Violation]:
    """Of a task (or a mere C({"config": …})) that is wrong in itself: what C(backend) could not do with the part that is right, so that
    the user learns everything at once. C(host_kernel_default): as in C(check); a missing kernel is told only when it is false."""
    tree, _contradictions = fold_short_options(task, task.get("config"))
    reading = read_tree(tree)
    if reading.config is None:
        return []
    metadata, policy = task.get("metadata"), task.get("restart_policy")
    settings = {"restart_policy": dict(policy)} if isinstance(policy, dict) else {}
    asked = VmRequest(None, settings=settings, metadata=metadata if isinstance(metadata, dict) else None)
    found = check(reading.config, backend, version, request=asked, host_kernel_default=host_kernel_default).violations
    fresh = [violation for violation in found if not any(overlap(violation.field, bad) for bad in reading.bad)]
    return given_names(fresh, options_used(task))


class _Found:
    """Collects what is found on one backend."""

    def __init__(self, can: Capabilities, version: t.Optional[str], subject: Subject) -> None:
        self.can = can
        self.version = version
        self.subject = subject
        self.violations: list[Violation] = []
        self.ignored: list[Violation] = []
        self.notices: list[Violation] = []

    def feature(self, use: Use) -> None:
        periods = periods_of(self.can, use)
        if periods is not None:
            support = lookup(periods, self.version)
            if support is not None and support.level == INERT:
                return
            if support is not None and support.level == IGNORED:
                self.ignored.append(Violation(use.field, f"is ignored by {self.can.title}: {support.reason}."))
                return
            lack = self._lack(periods, support, use)
            if lack:
                self.violations.append(Violation(use.field, f"{lack} {_who_could(use, self.can.backend)}"))
                return
        for part in use.below:
            self.feature(part)

    def _lack(self, periods: Periods, support: t.Optional[Support], use: Use) -> str:
        shown = _shown(self.can, use)
        if support is None:
            return f"{shown}{_needs_version(self.can.title, periods, self.version)}"
        if support.level != SUPPORTED:
            return f"{shown}is not supported by {self.can.title}: {support.reason}."
        # An unknown binary (None) is taken to be a full one: the controller has no host to ask.
        if support.needs and self.version is not None and support.needs not in self.subject.features:
            return f"{shown}needs a {self.can.title} built with the feature '{support.needs}'; the installed one ({self.version}) does not report it."
        return ""

    def limit(self, limit: Limit) -> None:
        for field, value in measure(self.subject, limit.measure):
            if limit.allows(value):
                continue
            low = limit.least is not None and value < limit.least
            bound = _amount(limit.measure, t.cast(int, limit.least if low else limit.most))
            shown = _amount(limit.measure, value)
            what = f"{shown} {limit.measure}" if field == "config" else shown
            if limit.published:
                side = "below" if low else "above"
                self.notices.append(
                    Violation(
                        field, f"{what} is {side} the {bound} that is published for {self.can.title}. It is tried all the same: the VMM does not enforce it."
                    )
                )
            else:
                side = "least" if low else "most"
                note = f" ({limit.note})" if limit.note else ""
                others = _who_allows(limit.measure, value, self.can.backend)
                self.violations.append(Violation(field, f"{what} is not possible: {bound} is the {side} that {self.can.title} takes{note}. {others}"))


def periods_of(can: Capabilities, use: Use) -> t.Optional[Periods]:
    """What the matrix says of one use: of its value, else of the option."""
    if use.word is not None and f"{use.key}={use.word}" in can.support:
        return can.support[f"{use.key}={use.word}"]
    return can.support.get(use.key)


def supporting(use: Use) -> list[tuple[str, Support]]:
    """The backends that can do it in their newest version, with the period."""
    found = []
    for backend in BACKENDS:
        periods = periods_of(capabilities_of(backend), use)
        support = lookup(periods, None) if periods else None
        if support is not None and support.level == SUPPORTED:
            found.append((backend, support))
    return found


def _shown(can: Capabilities, use: Use) -> str:
    """The value, where the matrix tells it from others and it is the user's own word; it begins a sentence."""
    tells_apart = use.word is not None and f"{use.key}={use.word}" in can.support
    return f"'{use.word}' " if tells_apart and use.word not in ("true", "false", *CLASSES) else ""


def _needs_version(title: str, periods: Periods, version: t.Optional[str]) -> str:
    since = next((support.since for support in periods if support.level == SUPPORTED and support.since), None)
    until = next((support.until for support in periods if support.until), None)
    if since and (version is None or older(version, since)):
        return f"needs {title} {since} or newer; this is {version}."
    return f"was removed in {title} {until}; this is {version or 'newer'}."


def _who_could(use: Use, backend: str) -> str:
    names = [f"{TITLES[name]}{f' since {support.since}' if support.since else ''}" for name, support in supporting(use) if name != backend]
    return _can(names)


def _who_allows(name: str, value: int, backend: str) -> str:
    names = []
    for other in BACKENDS:
        if other != backend and all(
            limit.allows(value) for limit in capabilities_of(other).limits if limit.measure == name and not limit.published and limit.holds(None)
        ):
            names.append(TITLES[other])
    return _can(names)


def _can(names: t.Sequence[str]) -> str:
    if not names:
        return "Leave it out."
    return f"{' and '.join(names)} can."


def _amount(name: str, value: int) -> str:
    return format_size(value) if "bytes" in name and value else str(value)
