"""A5: who may no longer look at a job is let go by its live socket. Who may open one stands in the matrix of rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.sessions.models import Session
from websockets import ConnectionClosed, Origin
from websockets.sync.client import ClientConnection, connect

from tests.counting import make_revision, pretrain
from tests.webapp.datasets.server import Browser, serving
from webapp.jobs import consumers
from webapp.jobs.models import Job
from webapp.projects.models import Membership, Project, User


@pytest.fixture
def port(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(consumers, "LOOK_SECONDS", 0.05)
    with serving() as port:
        yield port


@pytest.fixture
def job(port: int, project: Project) -> Job:
    return pretrain(make_revision(project))


@contextmanager
def following(port: int, job: Job, user: User) -> Iterator[ClientConnection]:
    """A page of `user` that has heard of the job."""
    cookie = {"Cookie": Browser(port, user).headers["Cookie"]}
    address = f"ws://127.0.0.1:{port}/ws/jobs/{job.pk}/"
    with connect(address, additional_headers=cookie, origin=Origin(f"http://127.0.0.1:{port}")) as socket:
        socket.send('{"after": 0}')
        assert '"state":"queued"' in str(socket.recv(20))
        yield socket


def closing_code(socket: ClientConnection) -> int:
    try:
        while True:
            socket.recv(20)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


def test_a_member_who_is_removed_is_let_go(port: int, job: Job, vera: User, alice: User) -> None:
    with following(port, job, vera) as theirs, following(port, job, alice) as other:
        Membership.objects.filter(user=vera).delete()
        assert closing_code(theirs) == consumers.NOT_YOURS
        Job.objects.filter(pk=job.pk).update(name="Another name")
        assert "Another name" in str(other.recv(20)), "who is still a member goes on"


def test_one_who_signs_out_or_is_shut_out_is_let_go(port: int, job: Job, vera: User, bob: User) -> None:
    with following(port, job, vera) as signed_out, following(port, job, bob) as shut_out:
        User.objects.filter(pk=bob.pk).update(is_active=False)
        assert closing_code(shut_out) == consumers.NOT_YOURS
        Session.objects.all().delete()
        assert closing_code(signed_out) == consumers.NOT_YOURS
