# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that behaves, and every way in which one may not."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded, FailedPrecondition, NotFound, Unavailable
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import fetch as fetching
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.fetch import base_name, fetch, fetch_text
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image_request import Reach
from ansible_collections.unkey.vmcp.tests.fakes.http_files import Fault, FileServer

BODY = bytes(range(256)) * 4096 * 3
REACH = Reach(proxy="", headers={}, validate_certs=True, ca_path=None, retries=3, idle_s=5, deadline_s=60)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)


def read(fetched: fetching.Fetched) -> bytes:
    return pathlib.Path(fetched.path).read_bytes()


def test_a_file_comes_whole(server: FileServer, work: Work) -> None:
    told: list[tuple[str, int, int]] = []
    file = server.add("/a", BODY, etag='"1"')
    fetched = fetch(f"{server.url}/a", REACH, dataclasses.replace(work, tell=lambda *what: told.append(what)), file.digest)
    assert read(fetched) == BODY and fetched.digest == file.digest and fetched.size == len(BODY)
    assert fetched.origin == {"etag": '"1"', "length": str(len(BODY))}
    assert told[-1] == (f"fetching {server.url}/a", len(BODY), len(BODY))
    assert "Range" not in server.requests[0].headers


@pytest.mark.parametrize("etag", ['"1"', None])
def test_a_connection_that_is_cut_is_gone_on_with(server: FileServer, work: Work, etag: str | None) -> None:
    file = server.add("/a", BODY, etag=etag, faults=[Fault(cut=1000), Fault(cut=500_000)])
    fetched = fetch(f"{server.url}/a", REACH, work, file.digest)
    assert read(fetched) == BODY
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=1000-", "bytes=501000-"]
    assert {request.headers.get("If-Range") for request in server.requests[1:]} == {etag}


def test_without_checksum_and_validator_it_begins_anew(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, faults=[Fault(cut=1000)])
    assert read(fetch(f"{server.url}/a", REACH, work)) == BODY
    assert [request.headers.get("Range") for request in server.requests] == [None, None]


def test_a_server_without_ranges_sends_it_all_again(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, etag='"1"', ranges=False, faults=[Fault(cut=1000)])
    assert read(fetch(f"{server.url}/a", REACH, work)) == BODY


def test_a_file_that_became_another_meanwhile_is_fetched_from_its_beginning(server: FileServer, work: Work) -> None:
    file = server.add("/a", BODY, etag='"1"', faults=[Fault(cut=1000, headers={"ETag": '"0"'})])
    assert read(fetch(f"{server.url}/a", REACH, work, file.digest)) == BODY
    assert server.requests[1].headers["If-Range"] == '"0"'


def test_parts_of_two_files_are_found_out_and_fetched_again(server: FileServer, work: Work) -> None:
    file = server.add("/a", BODY, faults=[Fault(body=b"x" * len(BODY), cut=1000)])
    assert read(fetch(f"{server.url}/a", REACH, work, file.digest)) == BODY
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=1000-", None]


def test_the_next_run_goes_on_where_a_killed_one_was(server: FileServer, work: Work) -> None:
    file = server.add("/a", BODY, etag='"1"', faults=[Fault(cut=700_000)])
    with pytest.raises(Unavailable, match=r"could not be fetched in 1 attempts; the last: the server sent 700000 of \d+ bytes. Run the task again"):
        fetch(f"{server.url}/a", dataclasses.replace(REACH, retries=0), work, file.digest)
    assert read(fetch(f"{server.url}/a", REACH, work, file.digest)) == BODY
    assert server.requests[-1].headers["Range"] == "bytes=700000-"


def test_a_part_of_another_url_is_not_gone_on_with(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, etag='"1"', faults=[Fault(cut=700_000)])
    server.add("/b", BODY[::-1], etag='"1"')
    with pytest.raises(Unavailable):
        fetch(f"{server.url}/a", dataclasses.replace(REACH, retries=0), work)
    assert read(fetch(f"{server.url}/b", REACH, work)) == BODY[::-1]
    assert "Range" not in server.requests[-1].headers


def test_wrong_bytes_are_removed(server: FileServer, work: Work) -> None:
    file = server.add("/a", BODY)
    wanted = "sha256:" + "0" * 64
    with pytest.raises(FailedPrecondition, match=f"has the checksum {file.digest}, not {wanted} as asked for, and was removed") as failure:
        fetch(f"{server.url}/a", REACH, work, wanted)
    assert failure.value.details["actual"] == file.digest
    assert os.listdir(work.dir) == []
    assert len(server.requests) == 1


def test_too_little_for_ever(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, etag='"1"', faults=[Fault(cut=10)] * 9)
    with pytest.raises(Unavailable, match="in 4 attempts") as failure:
        fetch(f"{server.url}/a", REACH, work)
    assert len(failure.value.details["attempts"]) == 4


def test_more_than_was_said_is_not_taken(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, faults=[Fault(more=b"and more")])
    assert read(fetch(f"{server.url}/a", REACH, work)) == BODY


def test_more_than_may_be_is_refused_before_it_comes(server: FileServer, work: Work) -> None:
    server.add("/a", bytes(work.max_size + 1))
    with pytest.raises(FailedPrecondition, match=r"more than max_size allows \(8MiB\)"):
        fetch(f"{server.url}/a", REACH, work)


def test_more_than_may_be_is_refused_as_it_comes(server: FileServer, work: Work) -> None:
    server.add("/a", bytes(work.max_size + (1 << 20)), faults=[Fault(no_length=True)])
    with pytest.raises(FailedPrecondition, match="more than max_size allows"):
        fetch(f"{server.url}/a", REACH, work)
    assert os.path.getsize(work.path(fetching.PART)) <= work.max_size


def test_what_may_pass_is_tried_again(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, faults=[Fault(status=503), Fault(status=429)])
    assert read(fetch(f"{server.url}/a", REACH, work)) == BODY
    server.add("/b", BODY, faults=[Fault(status=500, body=b"<title>out of order</title>")] * 9)
    with pytest.raises(Unavailable, match=r'answered 500 Internal Server Error.*"out of order"'):
        fetch(f"{server.url}/b", REACH, work)


def test_no_file_is_told_at_once(server: FileServer, work: Work) -> None:
    server.add("/moved", redirect=f"{server.url}/gone")
    with pytest.raises(NotFound, match=r'answered 404 Not Found for .*/moved \(redirected to .*/gone\): "No such thing"\. Is the URL right'):
        fetch(f"{server.url}/moved", REACH, work)
    assert len(server.requests) == 2
    server.add("/secret", faults=[Fault(status=403)])
    with pytest.raises(FailedPrecondition, match=r"403 Forbidden.*in 'headers' \(Authorization\)"):
        fetch(f"{server.url}/secret", REACH, work)


def test_redirects_are_followed_and_take_no_secrets_elsewhere(server: FileServer, work: Work) -> None:
    with FileServer() as other:
        other.add("/b", BODY)
        server.add("/a", redirect=f"{server.url}/near")
        server.add("/near", redirect=f"{other.url}/b")
        reach = dataclasses.replace(REACH, headers={"Authorization": "Bearer secret"})
        assert read(fetch(f"{server.url}/a", reach, work)) == BODY
        assert [request.headers.get("Authorization") for request in server.requests] == ["Bearer secret"] * 2
        assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(server: FileServer, work: Work, status: int) -> None:
    """308 too, which the standard library knows since Python 3.11 alone."""
    file = server.add("/b", BODY)
    server.add("/a", redirect=f"{server.url}/b", redirect_status=status)
    assert read(fetch(f"{server.url}/a", REACH, work, file.digest)) == BODY


# --- certificates ----------------------------------------------------------------------------------------------
@pytest.fixture
def certificate(tmp_path: pathlib.Path) -> pathlib.Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    path = tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-keyout", str(path), "-out", f"{path}.only"], check=True, capture_output=True)
    with path.open("a") as stream:
        stream.write(pathlib.Path(f"{path}.only").read_text())
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(certificate: pathlib.Path, work: Work) -> None:
    with FileServer(certificate) as server:
        server.add("/a", BODY)
        with pytest.raises(FailedPrecondition, match=r"The certificate of 127\.0\.0\.1:\d+ does not hold: self.signed certificate.*ca_path"):
            fetch(f"{server.url}/a", REACH, work)
        with pytest.raises(FailedPrecondition, match=r"does not hold"):
            fetch_text(f"{server.url}/a", REACH, work)
        assert not server.requests, "not a byte was asked for"


def test_a_certificate_for_another_name_is_refused(certificate: pathlib.Path, work: Work) -> None:
    with FileServer(certificate) as server:
        server.add("/a", BODY)
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(FailedPrecondition, match=r"does not hold: Hostname mismatch"):
            fetch(f"{url}/a", dataclasses.replace(REACH, ca_path=f"{certificate}.only"), work)


def test_an_authority_can_be_named_or_done_without(certificate: pathlib.Path, work: Work) -> None:
    with FileServer(certificate) as server:
        file = server.add("/a", BODY)
        for reach in (dataclasses.replace(REACH, ca_path=f"{certificate}.only"), dataclasses.replace(REACH, validate_certs=False)):
            assert read(fetch(f"{server.url}/a", reach, work, file.digest)) == BODY


def test_https_is_not_left_by_a_redirect(server: FileServer, certificate: pathlib.Path, work: Work) -> None:
    server.add("/a", BODY)
    with FileServer(certificate) as secure:
        secure.add("/a", redirect=f"{server.url}/a")
        with pytest.raises(FailedPrecondition, match="from https to http"):
            fetch(f"{secure.url}/a", dataclasses.replace(REACH, validate_certs=False), work)
    assert not server.requests


def test_a_circle_of_redirects_ends(server: FileServer, work: Work) -> None:
    server.add("/a", redirect=f"{server.url}/a")
    with pytest.raises(FailedPrecondition, match="answered 302"):
        fetch(f"{server.url}/a", REACH, work)


def test_a_redirect_to_a_file_of_the_host_is_not_followed(server: FileServer, work: Work) -> None:
    server.add("/a", redirect="file:///etc/passwd")
    with pytest.raises(FailedPrecondition, match="answered 302"):
        fetch(f"{server.url}/a", REACH, work)


def test_a_proxy_is_asked(server: FileServer, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("/a", BODY)
    assert read(fetch("http://images.example/a", dataclasses.replace(REACH, proxy=server.url), work)) == BODY
    assert server.requests[-1].headers["Host"] == "images.example"
    monkeypatch.setenv("http_proxy", server.url)
    assert read(fetch("http://images.example/a", dataclasses.replace(REACH, proxy=None), work)) == BODY


def test_a_server_that_hangs_is_given_up(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, faults=[Fault(hang_s=60)])
    began = time.monotonic()
    assert read(fetch(f"{server.url}/a", dataclasses.replace(REACH, idle_s=1), work)) == BODY
    assert 1 <= time.monotonic() - began < 60


def test_nobody_listens(work: Work) -> None:
    with FileServer() as gone:
        url = f"{gone.url}/a"
    with pytest.raises(Unavailable, match="Connection refused"):
        fetch(url, dataclasses.replace(REACH, retries=1), work)


def test_the_time_is_up(server: FileServer, work: Work) -> None:
    server.add("/a", BODY, faults=[Fault(status=503)] * 99)
    with pytest.raises(DeadlineExceeded, match=r"not done after 1 s\. Raise 'timeout'"):
        fetch(f"{server.url}/a", dataclasses.replace(REACH, retries=99_999), dataclasses.replace(work, deadline=time.monotonic() + 0.3, deadline_s=1))


def test_a_list_of_checksums(server: FileServer, work: Work) -> None:
    server.add("/SHA256SUMS", b"abc", faults=[Fault(status=503)])
    assert fetch_text(f"{server.url}/SHA256SUMS", REACH, work) == "abc"
    with pytest.raises(NotFound, match="404"):
        fetch_text(f"{server.url}/none", REACH, work)


def test_the_name_in_a_url() -> None:
    assert base_name("https://h/x/a%20b.img?token=1") == "a b.img"
