# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between Ansible and the core: the only file that knows AnsibleModule, reads check mode, and calls fail_json.

Standard library and Ansible only, and small: it is loaded by every task, also by those that find nothing to do.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from .call import CODE_MISSING, CODE_OPTION, Call, Outcome
from .errors import FailedPrecondition, VmcpError
from .runtime import find_code, forget_stand_ins, is_installed, lend_libraries, matching_elsewhere

# Ansible's respawn hands the arguments to the other interpreter through a pipe that nobody reads meanwhile; past what a pipe holds it would wait for ever.
RESPAWN_MAX_BYTES = 60_000
# Shorter values are words and numbers that a result has on its own.
MASKED_MIN_LENGTH = 8


def core(module: str, function: str) -> t.Callable[[Call], Outcome]:
    """A task of the core, by names below module_utils: C(core("runner.vm", "run_vm")). It is imported when it is called, which is after the code was found.

    Ansible does not see such an import, and so does not send with each task what the host has already."""

    def task(call: Call) -> Outcome:
        name = f"{__package__}.{module}"
        try:
            loaded = importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if not str(exc.name).startswith(str(__package__)):
                raise
            raise FailedPrecondition(
                f"The collection's code is not on this host ({exc.name} is missing), and did not come with the task: call the module by its full name, "
                "unkey.vmcp.NAME, so that its action plugin brings it."
            ) from exc
        return t.cast("t.Callable[[Call], Outcome]", getattr(loaded, function))(call)

    return task


def run(
    argument_spec: dict[str, t.Any], task: t.Callable[[Call], Outcome], *, large: t.Sequence[str] = (), reads_only: bool = False, **module_options: t.Any
) -> None:
    """Runs one task: options in, result out, every error of ours as one readable failure.

    C(task): from C(core). C(large): options of which only the size is logged and echoed. C(reads_only): nothing is to be left on the host, also not the
    code for later tasks."""

    class Module(AnsibleModule):
        """Ansible logs all options to syslog, whole, before a module gets a word in."""

        params: dict[str, t.Any]
        code: dict[str, t.Any]

        def _load_params(self) -> None:
            # What our action plugin adds is no option: nobody is to give it, find it in the documentation, or see it in a result.
            super()._load_params()
            self.code = self.params.pop(CODE_OPTION, None) or {}

        def add_path_info(self, kwargs: dict[str, t.Any]) -> dict[str, t.Any]:
            # To a result with a C(path) Ansible adds what it thinks of that file, and calls C(state) what kind of file it is.
            return kwargs

        def _log_invocation(self) -> None:
            given = self.params
            self.params = {**given, **_sizes(given, large)}
            super()._log_invocation()
            self.params = given

    module = Module(argument_spec=argument_spec, supports_check_mode=True, **module_options)
    act = not module.check_mode
    code = module.code
    kept = list(sys.path)
    try:
        if code and not find_code(code["hash"], code.get("archive"), act and not reads_only, module.warn):
            module.exit_json(failed=True, msg="The collection's code is not on this host yet.", **{CODE_MISSING: True})
        lend_libraries()
        forget_stand_ins()
        _run(module, argument_spec, act, task, large)
    finally:
        # Under Mitogen, the next task of this interpreter is somebody else's.
        sys.path[:] = kept


def _run(module: AnsibleModule, argument_spec: dict[str, t.Any], act: bool, task: t.Callable[[Call], Outcome], large: t.Sequence[str]) -> None:
    options = {k: v for k, v in module.params.items() if v is not None}
    call = Call(
        options=options,
        act=act,
        environ=dict(os.environ),
        uid=os.geteuid(),
        warn=module.warn,
        require_libraries=lambda: _require_libraries(options),
    )
    _hide_secrets(module, argument_spec)
    module.params.update(_sizes(module.params, large))
    try:
        outcome = task(call)
    except VmcpError as exc:
        module.fail_json(**exc.as_result())
    result = dict(outcome.result)
    if outcome.diff is not None and module._diff:
        result["diff"] = outcome.diff
    module.exit_json(**result)


def _sizes(params: t.Mapping[str, t.Any], large: t.Sequence[str]) -> dict[str, str]:
    """What stands in for large options in C(invocation) and in syslog."""
    return {name: f"{len(value)} entries, not repeated here" for name in large if isinstance(value := params.get(name), (dict, list, str))}


def _hide_secrets(module: AnsibleModule, argument_spec: dict[str, t.Any]) -> None:
    """Takes secrets out of what is echoed (C(invocation)), instead of masking every text that looks like one of them.

    Ansible masks all values of a secret wherever they occur in a result: metadata of C({"n": 1, "role": "web"}) would turn every 1 of the result and
    the VM's own name into asterisks. Results of ours never carry secrets; what is long enough to be one stays masked in case a VMM repeats it."""
    for name, option in argument_spec.items():
        if option.get("no_log") and module.params.get(name) is not None:
            module.params[name] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    module.no_log_values = {value for value in module.no_log_values if len(str(value)) >= MASKED_MIN_LENGTH}


def _require_libraries(options: t.Mapping[str, t.Any]) -> None:
    """Pydantic must be there, though only what is wrong needs it. Where another Python has our runtime, the task runs again there, as a last resort."""
    if is_installed("pydantic"):
        return
    from .thirdparty import REMEDY

    interpreter = matching_elsewhere()
    if interpreter is None:
        raise FailedPrecondition(f"The Python library pydantic is missing for {os.path.realpath('/proc/self/exe')}. {REMEDY}")
    size = len(json.dumps(options, default=str))
    if size > RESPAWN_MAX_BYTES:
        raise FailedPrecondition(
            f"This task's arguments ({size} bytes) are too large to be handed over to {interpreter}, whose runtime has the libraries. "
            f"Set ansible_python_interpreter to {interpreter} for this host, or split the task."
        )
    from ansible.module_utils.common.respawn import has_respawned, respawn_module

    if has_respawned():
        raise FailedPrecondition(f"{interpreter} has no pydantic either. {REMEDY}")
    if not hasattr(sys.modules["__main__"], "_module_fqn"):
        raise FailedPrecondition(
            f"{sys.executable} has no pydantic, and only what Ansible itself has started (not Mitogen) can be handed over to {interpreter}, whose runtime "
            f"has the libraries. Set ansible_python_interpreter to {interpreter} for this host."
        )

    respawn_module(interpreter)
