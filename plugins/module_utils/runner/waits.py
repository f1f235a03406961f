# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until conditions hold: those of one VM, or of many, by one loop that looks at all of them in turn.

The loop knows nothing of what it waits for but that the VM's process must live.
"""

from __future__ import annotations

import time
import typing as t

from ..errors import DeadlineExceeded, VmcpError
from ..host.console_search import TooSlow
from .conditions import Condition, Target

# From the end of a process to the next one, where policy starts it again.
RESTART_S = 1.0
# A microVM is up within milliseconds, a Linux guest takes seconds: what has lasted longer is looked at less often.
POLL_LEAST_S = 0.002
POLL_MOST_S = 0.05


class Wait:
    """What one VM is waited for. C(met_before): texts of those that an earlier run saw met in this boot; C(remember) is called with each lasting one that is
    met now. C(met): condition to seconds. C(failed): why it is over without all of them."""

    def __init__(
        self,
        target: Target,
        wanted: t.Sequence[Condition],
        timeout_s: float,
        met_before: t.Collection[str] = (),
        remember: t.Callable[[str], None] = lambda text: None,
    ) -> None:
        self.target = target
        self.wanted = wanted
        self.timeout_s = timeout_s
        self.met: dict[str, float] = {c.text: 0.0 for c in wanted if c.lasting and c.text in met_before}
        self.failed: t.Optional[VmcpError] = None
        self._remember = remember
        self._gone_since: t.Optional[float] = None

    def look(self, waited_s: float) -> bool:
        """Asks once for each that is not met. Whether it is over, one way or the other."""
        for condition in self.wanted:
            if condition.text not in self.met and self._holds(condition, waited_s):
                self.met[condition.text] = waited_s
                if condition.lasting:
                    self._remember(condition.text)
        if self.failed is not None:
            return True
        if len(self.met) == len({c.text for c in self.wanted}):
            return True
        if self.target.alive():
            self._gone_since = None
        else:
            self._gone_since = waited_s if self._gone_since is None else self._gone_since
            if not self.target.may_return() or waited_s - self._gone_since >= RESTART_S:
                self.failed = self.target.obituary()
        if self.failed is None and waited_s >= self.timeout_s:
            self.failed = _unmet(self.target, self.wanted, self.met, waited_s)
        return self.failed is not None

    def _holds(self, condition: Condition, waited_s: float) -> bool:
        try:
            return condition.holds()
        except TooSlow as exc:
            self.failed = _unmet(self.target, [condition], self.met, waited_s, _BACKTRACKS.format(exc))
            return False

    def result(self) -> list[dict[str, t.Any]]:
        """C([{condition, seconds}]) in the order given."""
        return [{"condition": c.text, "seconds": round(self.met[c.text], 3)} for c in self.wanted]


def wait_all(waits: t.Sequence[Wait], look: t.Callable[[t.Sequence[Wait], float], list[bool]], told: t.Callable[[int], object] = lambda left: None) -> None:
    """Until each of them is over, all from now on. C(look) asks many once each (C(Wait.look)); C(told) hears how many are left whenever that changes."""
    began = time.monotonic()
    left = list(waits)
    while left:
        waited = time.monotonic() - began
        over = look(left, waited)
        before = len(left)
        left = [one for one, is_over in zip(left, over, strict=True) if not is_over]
        if len(left) != before:
            told(len(left))
        if left:
            waited = time.monotonic() - began
            soonest = min(one.timeout_s for one in left)
            time.sleep(min(max(POLL_LEAST_S, min(POLL_MOST_S, waited / 20)), max(0.0, soonest - waited)))


def wait(
    target: Target,
    wanted: t.Sequence[Condition],
    timeout_s: float,
    met_before: t.Collection[str] = (),
    remember: t.Callable[[str], None] = lambda text: None,
) -> list[dict[str, t.Any]]:
    """Waits for all conditions of one VM; arguments and result as for C(Wait).

    DeadlineExceeded names the first that does not hold, with the console's last 20 lines; the VM's own error when its process ends
    meanwhile. The VM is left as it is."""
    return finish(Wait(target, wanted, timeout_s, met_before, remember))


def finish(one: Wait) -> list[dict[str, t.Any]]:
    """As C(wait), for what has been made to be waited for."""
    wait_all([one], lambda waits, waited_s: [each.look(waited_s) for each in waits])
    if one.failed is not None:
        raise one.failed
    return one.result()


_LATE = "raise wait_timeout, or look at it with unkey.vmcp.vmcp_console."
_BACKTRACKS = "the expression {}: write it so that it backtracks less, without a repetition inside a repetition."


def _unmet(target: Target, wanted: t.Sequence[Condition], met: t.Mapping[str, float], waited: float, remedy: str = _LATE) -> DeadlineExceeded:
    missing = [c.text for c in wanted if c.text not in met]
    tail = target.console_tail(20)
    others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    shown = " The console's last lines are in 'console'." if tail else " The console is empty."
    return DeadlineExceeded(
        f"VM {target.name} did not meet '{missing[0]}'{others} within {waited:.0f} s.{shown} The VM is left as it is; {remedy}",
        details={"unmet": missing, "met": list(met), "waited_s": round(waited, 1), "console": tail},
    )
