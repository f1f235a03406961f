# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host, as root: versions of a program side by side, each in a directory of its own. Standard library only.

    release.py inspect BASE SPEC             whether the version is there, whole and as recorded
    release.py install BASE SPEC INCOMING    verifies what lies in INCOMING, and puts the version in its place
    release.py prune   BASE KEEP [STATE...]  removes versions that are not in KEEP and that nobody uses

BASE: C(/opt/vmcp/NAME). SPEC: JSON, C({version, assets: [{name, sha256, lists}], programs: [{name, asset, member, mode, says}], sums}):
C(lists) names the asset whose digest a checksum file of upstream's lists; C(member) is a path in an archive (without one the asset is the program itself);
C(says) is what the program must answer to C(--version); C(sums) is the archive's own list of digests, C({asset, member}).

A version appears whole or not at all, by a rename, after everything about it was verified. What runs keeps the file that it was started from.
Answers in JSON on stdout; a refusal is a sentence on stderr, and code 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import typing as t

RECORD = "RELEASE.json"
SCHEMA = 1
ANSWER_S = 20
Spec = dict[str, t.Any]


class Refused(Exception):
    """The text says what is wrong and what to do."""


def digest(path: str) -> str:
    sha256 = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha256.update(block)
    return sha256.hexdigest()


def inspect(base: str, spec: Spec) -> dict[str, t.Any]:
    """C({intact, why}). A directory without a record was made by somebody else, and nobody knows what is in it: it counts as not there."""
    directory = f"{base}/{spec['version']}"
    if not os.path.isdir(directory):
        return {"intact": False, "why": "it is not installed"}
    try:
        with open(f"{directory}/{RECORD}", encoding="utf-8") as stream:
            record = json.load(stream)
        assets, files = record["assets"], record["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {"intact": False, "why": f"{directory} has no record of what was installed"}
    if assets != wanted_assets(spec) or set(files) != {program["name"] for program in spec["programs"]}:
        return {"intact": False, "why": "it was made from other files than those asked for"}
    for program in spec["programs"]:
        path = f"{directory}/{program['name']}"
        if not os.path.isfile(path) or digest(path) != files[program["name"]]:
            return {"intact": False, "why": f"{path} is missing or is not what was installed"}
        if os.stat(path).st_mode & 0o7777 != int(program["mode"], 8) or os.stat(path).st_uid != os.geteuid():
            return {"intact": False, "why": f"{path} has another mode or owner than it was given"}
    return {"intact": True, "why": ""}


def wanted_assets(spec: Spec) -> dict[str, str]:
    return {asset["name"]: asset["sha256"] for asset in spec["assets"] if not asset.get("lists")}


def install(base: str, spec: Spec, incoming: str) -> dict[str, t.Any]:
    verify_assets(spec, incoming)
    os.umask(0o022)
    os.makedirs(base, exist_ok=True)
    # Where discovery does not look (a leading dot), and on the file system of the target.
    work = tempfile.mkdtemp(prefix=".installing-", dir=base)
    try:
        os.chmod(work, 0o755)
        for program in spec["programs"]:
            place(program, incoming, work)
        verify_sums(spec, incoming, work)
        for program in spec["programs"]:
            ask(program, f"{work}/{program['name']}")
        files = {program["name"]: digest(f"{work}/{program['name']}") for program in spec["programs"]}
        with open(f"{work}/{RECORD}", "w", encoding="utf-8") as stream:
            json.dump({"schema": SCHEMA, "version": spec["version"], "assets": wanted_assets(spec), "files": files}, stream, indent=2, sort_keys=True)
            stream.write("\n")
        settle(work, f"{base}/{spec['version']}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {"installed": f"{base}/{spec['version']}", "files": files}


def verify_assets(spec: Spec, incoming: str) -> None:
    known = wanted_assets(spec)
    for asset in spec["assets"]:
        path = f"{incoming}/{asset['name']}"
        if asset.get("lists"):
            with open(path, encoding="utf-8", errors="replace") as stream:
                listed = {words[-1].lstrip("*").split("/")[-1]: words[0].lower() for words in map(str.split, stream) if len(words) == 2}
            said = listed.get(asset["lists"])
            if said != known[asset["lists"]]:
                raise Refused(
                    f"Upstream's checksum file {asset['name']} gives {said or 'no digest'} for {asset['lists']}, and {known[asset['lists']]} is expected. "
                    "One of the two is not upstream's; nothing was installed."
                )
            continue
        found = digest(path)
        if found != asset["sha256"]:
            raise Refused(
                f"{asset['name']} has the sha256 digest {found} ({os.path.getsize(path)} bytes), and {asset['sha256']} is expected: "
                "it was truncated or changed on its way, or is another build. Nothing was installed, and what was there is untouched."
            )


def place(program: Spec, incoming: str, work: str) -> None:
    """One named member and nothing else: an archive decides neither names nor places."""
    target = f"{work}/{program['name']}"
    source = f"{incoming}/{program['asset']}"
    with contextlib.ExitStack() as stack:
        if program.get("member"):
            try:
                archive = stack.enter_context(tarfile.open(source))
                member = archive.getmember(program["member"])
                stream = archive.extractfile(member) if member.isfile() else None
            except (tarfile.TarError, EOFError, OSError) as exc:
                raise Refused(f"{program['asset']} is no archive that can be read ({exc}). Nothing was installed.") from exc
            except KeyError:
                stream = None
            if stream is None:
                raise Refused(f"{program['asset']} does not hold the file {program['member']}. Is it the archive of another version or processor?")
            stack.enter_context(stream)
        else:
            stream = stack.enter_context(open(source, "rb"))
        with open(target, "wb") as out:
            try:
                shutil.copyfileobj(stream, out, 1 << 20)
            except (EOFError, OSError, tarfile.TarError) as exc:
                raise Refused(f"{program['asset']} breaks off within {program['member']} ({exc}). Nothing was installed.") from exc
            out.flush()
            os.fsync(out.fileno())
    os.chmod(target, int(program["mode"], 8))


def verify_sums(spec: Spec, incoming: str, work: str) -> None:
    """By the list that upstream puts into the archive. It also names files that the archive leaves out."""
    sums = spec.get("sums")
    if not sums:
        return
    with tarfile.open(f"{incoming}/{sums['asset']}") as archive:
        try:
            stream = archive.extractfile(sums["member"])
        except KeyError:
            stream = None
        if stream is None:
            raise Refused(f"{sums['asset']} holds no {sums['member']}, the list of its digests. Nothing was installed.")
        lines = stream.read().decode("utf-8", "replace").splitlines()
    listed = {words[1].lstrip("*").split("/")[-1]: words[0].lower() for words in map(str.split, lines) if len(words) == 2}
    for program in spec["programs"]:
        member = program["member"].split("/")[-1]
        found = digest(f"{work}/{program['name']}")
        if listed.get(member) != found:
            raise Refused(f"{member} has the digest {found}, and the archive's own list says {listed.get(member, 'nothing')}. Nothing was installed.")


def ask(program: Spec, path: str) -> None:
    """A file for another processor, or of another version than its name says, is found here and not when a VM starts."""
    if not program.get("says"):
        return
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_S,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Refused(f"{program['name']} does not run on this host: {exc}. Is it built for its processor? Nothing was installed.") from exc
    said = done.stdout.decode("utf-8", "replace")
    if program["says"] not in said:
        raise Refused(f"{program['name']} answers {said.strip()[:200]!r} to --version, and not {program['says']!r}. Nothing was installed.")


def settle(work: str, target: str) -> None:
    """Renames the whole directory. What stood there, incomplete or changed, goes aside first and is removed after."""
    sync(work)
    aside = None
    if os.path.lexists(target):
        aside = tempfile.mkdtemp(prefix=".removing-", dir=os.path.dirname(target))
        os.rename(target, f"{aside}/old")
    try:
        os.rename(work, target)
    except OSError:
        if aside:
            os.rename(f"{aside}/old", target)
        raise
    sync(os.path.dirname(target))
    if aside:
        shutil.rmtree(aside, ignore_errors=True)


def sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def prune(base: str, keep: t.Sequence[str], states: t.Sequence[str], act: bool) -> dict[str, t.Any]:
    """C({removed, kept}); C(kept) says for each version why. The current one is always kept."""
    removed: list[str] = []
    kept: dict[str, str] = {}
    try:
        there = sorted(name for name in os.listdir(base) if name != "current" and not name.startswith(".") and os.path.isdir(f"{base}/{name}"))
    except FileNotFoundError:
        there = []
    current = os.path.basename(os.path.realpath(f"{base}/current"))
    for version in there:
        if version in keep or version == current:
            continue
        if not os.path.isfile(f"{base}/{version}/{RECORD}"):
            kept[version] = "it was not put there by this role"
            continue
        why = used(f"{base}/{version}", f"{base}/{version}", states)
        if why:
            kept[version] = why
        elif not act or remove_unused(base, version, states, kept):
            removed.append(version)
    return {"removed": removed, "kept": kept}


def remove_unused(base: str, version: str, states: t.Sequence[str], kept: dict[str, str]) -> bool:
    """Moved aside first and looked for again: a VM may have been defined with it in between."""
    aside = tempfile.mkdtemp(prefix=".removing-", dir=base)
    os.rename(f"{base}/{version}", f"{aside}/{version}")
    why = used(f"{base}/{version}", f"{aside}/{version}", states)
    if why:
        os.rename(f"{aside}/{version}", f"{base}/{version}")
        os.rmdir(aside)
        kept[version] = why
        return False
    shutil.rmtree(aside)
    return True


def used(named: str, where: str, states: t.Sequence[str]) -> str:
    """Who uses a version: a VM whose files name its directory, or a process that runs one of its files, under whatever path. Empty: nobody."""
    needle = os.fsencode(f"{named}/")
    for state in states:
        for path in sorted(glob.glob(f"{glob.escape(state)}/vms/*/*")):
            if path.endswith(".log") or not os.path.isfile(path):
                continue
            with contextlib.suppress(OSError), open(path, "rb") as stream:
                if needle in stream.read(1 << 20):
                    return f"the VM {path.split('/')[-2]} uses it"
    inodes = {(stat.st_dev, stat.st_ino) for stat in (os.stat(entry.path) for entry in os.scandir(where) if entry.is_file())}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # A process that ends meanwhile uses nothing.
        with contextlib.suppress(OSError):
            stat = os.stat(f"/proc/{pid}/exe")
            if (stat.st_dev, stat.st_ino) in inodes:
                return f"the process {pid} runs it"
    return ""


@contextlib.contextmanager
def alone(base: str) -> t.Iterator[None]:
    """One at a time on a host: two controllers may install at once."""
    os.makedirs(base, exist_ok=True)
    with open(f"{base}/.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(verb: str, base: str, *rest: str) -> None:
    if verb == "inspect":
        answer = inspect(base, json.loads(rest[0]))
    elif verb == "install":
        with alone(base):
            answer = install(base, json.loads(rest[0]), rest[1])
    elif verb == "prune":
        with alone(base):
            answer = prune(base, json.loads(rest[0]), rest[1:], act=True)
    elif verb == "would-prune":
        answer = prune(base, json.loads(rest[0]), rest[1:], act=False)
    else:
        raise Refused(f"{verb}: there is no such verb")
    print(json.dumps(answer))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Refused as exc:
        sys.exit(str(exc))
