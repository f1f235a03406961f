# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VMM says while it comes up, and when that is enough to give it up. Standard library only."""

from __future__ import annotations

import time
import typing as t

from ..errors import Internal, VmcpError

# For how long a VMM that was started may go on answering what is no answer, or that it has no VM that runs: both are settled with its start, and a VMM
# that is only slow says nothing meanwhile.
NONSENSE_S = 5.0
IDLE_S = 10.0


class Answers:
    """What a VMM has said since its start, other than that its VM runs. C(settled): what it has been saying for so long that it will say nothing else.
    C(last): the last complaint, for a sentence.

    Only answers count. Silence, a refused connection, and a refusal for another reason begin anew: such a VMM may be on its way."""

    def __init__(self, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.settled = ""
        self.last = ""
        self._kind = ""
        self._since = 0.0

    def heard(self, answer: t.Union[str, VmcpError]) -> None:
        if isinstance(answer, str):
            kind, text, patience_s = answer, f"said for {IDLE_S:.0f} s that its VM is {answer}", IDLE_S
        else:
            nonsense = isinstance(answer, Internal)
            kind, patience_s = ("nonsense", NONSENSE_S) if nonsense else ("", 0.0)
            text = f"given no sensible answer for {NONSENSE_S:.0f} s: {answer.msg.rstrip('.')}"
            self.last = f" ({answer.msg})"
        now = self._clock()
        if kind != self._kind:
            self._kind, self._since = kind, now
        if kind and now - self._since >= patience_s:
            self.settled = text
