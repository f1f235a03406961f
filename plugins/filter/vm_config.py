# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of VM configurations on the controller, without any host. The documentation of the filter is in C(vmcp_violations.yml)."""

from __future__ import annotations

import collections.abc
import typing as t

import yaml
from ansible.errors import AnsibleFilterError

from ..module_utils.capabilities.check import Verdict, check, check_the_rest
from ..module_utils.capabilities.choose import choose
from ..module_utils.errors import Violation
from ..module_utils.model.config import VmConfig
from ..module_utils.model.task import VmRequest, validate_request
from ..module_utils.model.validate import validate
from ..module_utils.model.words import BACKEND_CHOICES, BACKENDS
from ..module_utils.thirdparty_pydantic import HAS_PYDANTIC

Result = dict[str, t.Any]


class _Loader(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word, and the first was meant too."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[t.Any, t.Any]:
        seen = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def vmcp_violations(document: t.Any, backend: str = "auto", version: t.Optional[str] = None, host_kernel: bool = False) -> Result:
    """See C(vmcp_violations.yml). C(host_kernel): take it that the host has a default kernel."""
    if not HAS_PYDANTIC:
        raise AnsibleFilterError("vmcp_violations needs the Python library pydantic for the Python that runs ansible-playbook: pip install 'pydantic>=2'.")
    if backend not in BACKEND_CHOICES:
        raise AnsibleFilterError(f"vmcp_violations: backend must be one of {', '.join(BACKEND_CHOICES)}, not {backend!r}.")
    if version is not None and (backend == "auto" or not isinstance(version, str)):
        raise AnsibleFilterError(
            "vmcp_violations: version is text (quote it), and goes with one backend; backend is 'auto'."
            if backend == "auto"
            else "vmcp_violations: version is text: quote it."
        )
    document, violations = _load(document)
    if violations:
        return _result(backend, "", Verdict(violations=tuple(violations)), ())
    config, request, violations = _read(document)
    if config is None:
        if backend != "auto":
            violations += check_the_rest(_as_task(document), backend, version, host_kernel_default=host_kernel)
        return _result(backend, "", Verdict(violations=tuple(violations)), ())
    verdicts = {name: check(config, name, version if name == backend else None, request=request, host_kernel_default=host_kernel) for name in BACKENDS}
    could = tuple(name for name in BACKENDS if not verdicts[name].violations)
    if backend != "auto":
        return _result(backend, "", verdicts[backend], could)
    choice = choose(config, request, (), True, None, host_kernels=BACKENDS if host_kernel else ())
    return _result(choice.backend, choice.reason, verdicts[choice.backend], could)


def _result(backend: str, reason: str, verdict: Verdict, could: t.Sequence[str]) -> Result:
    return {
        "valid": not verdict.violations,
        "backend": backend,
        "backend_reason": reason,
        "violations": [violation.as_dict() for violation in verdict.violations],
        "ignored": [violation.as_dict() for violation in verdict.ignored],
        "notices": [violation.as_dict() for violation in verdict.notices],
        "could": list(could),
    }


def _load(document: t.Any) -> tuple[t.Any, list[Violation]]:
    """The text of a file as data; data as it is."""
    if not isinstance(document, str):
        return document, []
    try:
        return yaml.load(document, Loader=_Loader), []
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        return None, [Violation("config", f"cannot be read as JSON or YAML: {' '.join(str(exc).split())}.")]


def _as_task(document: t.Any) -> dict[str, t.Any]:
    """A configuration, the document around it, or a task's options with the configuration among them: as a task's options."""
    if isinstance(document, collections.abc.Mapping) and "config" in document and len(document) > 1:
        return {"name": "unnamed", **document}
    return {"name": "unnamed", "config": document}


def _read(document: t.Any) -> tuple[t.Optional[VmConfig], t.Optional[VmRequest], list[Violation]]:
    if document is None:
        document = {}
    request, violations = validate_request(_as_task(document), stored={})
    if request is None:
        return None, None, violations
    config, violations = validate(request.config)
    return config, request, request.as_given(violations)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vmcp_violations": vmcp_violations}
