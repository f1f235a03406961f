# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable, VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.answers import IDLE_S, NONSENSE_S, Answers

NONSENSE = Internal("What answers does not speak QMP: SSH-2.0.")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def hear(answer: str | VmcpError, for_s: float, answers: Answers, clock: Clock, step_s: float = 0.25) -> Answers:
    end = clock.now + for_s
    while clock.now <= end:
        answers.heard(answer)
        clock.now += step_s
    return answers


def begin() -> tuple[Answers, Clock]:
    clock = Clock()
    return Answers(clock), clock


def test_nonsense_is_given_up_after_a_few_seconds_with_what_was_said() -> None:
    answers, clock = begin()
    assert hear(NONSENSE, NONSENSE_S - 1, answers, clock).settled == ""
    assert hear(NONSENSE, 1.5, answers, clock).settled == "given no sensible answer for 5 s: What answers does not speak QMP: SSH-2.0"


@pytest.mark.parametrize("state", ["created", "absent"])
def test_a_vmm_that_says_that_nothing_runs_is_given_up_later(state: str) -> None:
    answers, clock = begin()
    assert hear(state, IDLE_S - 1, answers, clock).settled == ""
    assert state in hear(state, 1.5, answers, clock).settled


@pytest.mark.parametrize("error", [Unavailable("refused."), DeadlineExceeded("silent."), FailedPrecondition("not now.")])
def test_a_vmm_that_is_slow_is_not_given_up(error: VmcpError) -> None:
    answers, clock = begin()
    assert hear(error, 60, answers, clock).settled == ""
    assert answers.last == f" ({error.msg})"


def test_what_was_said_before_a_silence_does_not_count() -> None:
    answers, clock = begin()
    for answer in (NONSENSE, Unavailable("gone."), NONSENSE, "created", NONSENSE, DeadlineExceeded("silent."), "created", "absent"):
        assert hear(answer, NONSENSE_S - 1, answers, clock).settled == ""
