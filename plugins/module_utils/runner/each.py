# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same for each of many VMs: one after the other while that is quick, several at a time as soon as one of them lets us wait.

What answers in a fraction of a millisecond is not made faster by threads; what answers after seconds, or not at all, must not hold up the others. Where a
question can be sent before the answer is waited for, threads are not needed at all (C(ahead)).
"""

from __future__ import annotations

import time
import typing as t

Item = t.TypeVar("Item")
Result = t.TypeVar("Result")

SLOW_S = 0.05
# Questions on their way at once; each holds a connection.
ASKED_AHEAD = 64


def each(items: t.Sequence[Item], work: t.Callable[[Item], Result], at_a_time: int) -> list[Result]:
    """The results in order. An exception of C(work) ends it, when those that have begun are through."""
    results: list[Result] = []
    for index, item in enumerate(items):
        began = time.monotonic()
        results.append(work(item))
        rest = items[index + 1 :]
        if len(rest) > 1 and at_a_time > 1 and time.monotonic() - began > SLOW_S:
            return results + _at_once(rest, work, at_a_time)
    return results


def _at_once(items: t.Sequence[Item], work: t.Callable[[Item], Result], at_a_time: int) -> list[Result]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(at_a_time, len(items))) as pool:
        return list(pool.map(work, items))


def ahead(items: t.Sequence[Item], ask: t.Callable[[Item], t.Callable[[], Result]]) -> list[Result]:
    """The results in order. C(ask) sends a question and returns what waits for its answer: so many are asked before the first answer is waited for. One
    that is not given before its deadline costs all that were asked with it no more time than that."""
    results: list[Result] = []
    for start in range(0, len(items), ASKED_AHEAD):
        answers = [ask(item) for item in items[start : start + ASKED_AHEAD]]
        results += [answer() for answer in answers]
    return results
