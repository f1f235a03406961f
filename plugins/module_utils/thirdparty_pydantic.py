# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pydantic's names for the models, with inert stand-ins where the library is missing (see C(thirdparty))."""

from __future__ import annotations

import os
import typing as t

# Plugins of other programs are no business of a task's, and looking for them costs it some milliseconds.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

try:
    from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

    HAS_PYDANTIC = True
except ImportError:
    # Only C(ansible-test sanity --test import) gets to run with these: the bootstrap stops a task before it reaches a model.
    HAS_PYDANTIC = False

    class ValidationError(Exception):  # type: ignore[no-redef]
        """Stand-in; never raised."""

    class BaseModel:  # type: ignore[no-redef]
        """Stand-in; never instantiated."""

    def _inert(*args: t.Any, **kwargs: t.Any) -> t.Any:
        return None

    Field = _inert
    AfterValidator = BeforeValidator = WithJsonSchema = _inert  # type: ignore[assignment, misc]
    ConfigDict = dict  # type: ignore[assignment, misc]

__all__ = ["HAS_PYDANTIC", "AfterValidator", "BaseModel", "BeforeValidator", "ConfigDict", "Field", "ValidationError", "WithJsonSchema"]
