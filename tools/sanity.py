# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-test sanity on a copy of the checkout. Standard library only; run with the interpreter of .venv.

ansible-test wants the collection below C(ansible_collections/unkey/vmcp) and makes virtual environments of its own, into which it brings pip
with a bootstrap file from the network. Everything of that is kept in C(.cache): the copy, its home directory, and the bootstrap file, which is made here
from pip's own wheel, fetched by pip from wherever this machine's pip is set to look.

Arguments are passed on: C(python tools/sanity.py --test validate-modules plugins/modules/vmcp_vm.py).
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
HOME = CACHE / "ansible-test-home"
COPY = CACHE / "sanity" / "ansible_collections" / "unkey" / "vmcp"

# Stands in for get-pip.py, whose own options these two are; the wheel lies beside it.
BOOTSTRAP = """\
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).with_name("{wheel}")))
from pip._internal.cli.main import main
sys.exit(main(["install", "--upgrade", "--force-reinstall", *(a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel"))]))
"""


def copy_checkout() -> None:
    """What git tracks or would track; never what it ignores."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True, text=True, timeout=60
    )
    for name in filter(None, listing.stdout.split("\0")):
        source, target = ROOT / name, COPY / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # A repository of its own: ansible-test asks git for the files, and would get the answer of the checkout around it.
    subprocess.run(["git", "init", "--quiet", str(COPY)], check=True, timeout=60)


def write_pip_settings() -> None:
    """ansible-test drops the environment, and with it settings such as PIP_CERT or a proxy: hand them on in a file."""
    listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True, timeout=60)
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    lines = listing.stdout.splitlines()
    # The environment's come last: they win in pip, too.
    for line in sorted(lines, key=lambda text: text.startswith(":env:")):
        name, dummy, value = line.partition("=")
        section, dummy, key = name.rpartition(".")
        if section in ("global", ":env:"):
            settings.set("global", key, ast.literal_eval(value))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        if os.environ.get(variable):
            settings.set("global", "proxy", os.environ[variable])
    target = HOME / ".config" / "pip" / "pip.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as stream:
        settings.write(stream)


def prepare_pip_bootstrap() -> None:
    spec = importlib.util.find_spec("ansible_test")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("sanity: ansible-test is not installed; run './test sanity', which installs it.")
    source = pathlib.Path(spec.submodule_search_locations[0]) / "_internal" / "python_requirements.py"
    versions = set(re.findall(r"""\bpip=["']([0-9.]+)["']""", source.read_text(encoding="utf-8")))
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in sorted(versions):
        wheel = f"pip-{version}-py3-none-any.whl"
        if not (cache / wheel).exists():
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(cache), f"pip=={version}"],
                check=True,
                timeout=300,
            )
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(BOOTSTRAP.format(wheel=wheel), encoding="utf-8")


def search_path() -> str:
    """PATH without directories of interpreters that are there and do not run: ansible-test would try them and give up. Such are the shims of pyenv, for
    versions that are not switched on; what they stand for is put at the end instead."""
    kept, dropped = [], False
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = [p for p in pathlib.Path(directory).glob("python3.*") if re.fullmatch(r"python3\.[0-9]+", p.name)]
        if all(subprocess.run([str(p), "-c", ""], check=False, capture_output=True, timeout=60).returncode == 0 for p in found):
            kept.append(directory)
        else:
            dropped = True
            print(f"sanity: leaving {directory} out of PATH: not every Python in it runs")
    if dropped and shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], check=True, capture_output=True, text=True, timeout=60).stdout.strip()
        kept.extend(str(path) for path in sorted(pathlib.Path(root).glob("versions/3.*/bin")))
    return os.pathsep.join(kept)


def main() -> int:
    copy_checkout()
    HOME.mkdir(parents=True, exist_ok=True)
    write_pip_settings()
    prepare_pip_bootstrap()
    command = [sys.executable, str(pathlib.Path(sys.executable).with_name("ansible-test")), "sanity", "--local", "--color", "no", *sys.argv[1:]]
    return subprocess.run(command, cwd=COPY, env={**os.environ, "HOME": str(HOME), "PATH": search_path()}, check=False, timeout=3000).returncode


if __name__ == "__main__":
    sys.exit(main())
