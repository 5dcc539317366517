"""L1: no event is lost, doubled or out of order on the way to a page, whatever happens to its socket."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any

import pytest
import redis
import websockets
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from tests.counting import make_revision, pretrain, wait_until
from tests.stack import House, house
from webapp.jobs.lifecycle.leases import job_claim, locked_attempt
from webapp.jobs.lifecycle.page_hints import group_of
from webapp.jobs.models import Event, Job, State
from webapp.projects.models import Membership, Project, Role, User

pytestmark = pytest.mark.slow

POINTS, SOCKETS, CUTS = 10_000, 10, 20


@pytest.fixture(scope="module")
def web(django_db_blocker: DjangoDbBlocker) -> Iterator[House]:
    """Engines and a web whose channels hold one message."""
    with django_db_blocker.unblock(), house(CRISTAE_CHANNEL_CAPACITY="1") as found:
        found.start_web()
        yield found


@pytest.fixture
def job(web: House) -> Job:
    """A job that this test speaks for, as a worker does."""
    Project.objects.all().delete()
    User.objects.all().delete()
    project = Project.objects.create(name="Mito")
    Membership.objects.create(project=project, user=User.objects.create_user("vera"), role=Role.VIEWER)
    pretrain(make_revision(project))
    claimed = job_claim("device", worker="the test", device="cpu")
    assert claimed
    return claimed


def headers(user: str, *, origin: str) -> dict[str, str]:
    """What a browser in which `user` has signed in sends with the handshake."""
    found = User.objects.get(username=user)
    session = SessionStore()
    session[SESSION_KEY] = str(found.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = found.get_session_auth_hash()
    session.save()
    cookie: SimpleCookie = SimpleCookie({settings.SESSION_COOKIE_NAME: session.session_key})
    return {"Cookie": cookie.output(header="").strip(), "Origin": origin}


def say_points(job: Job, first: int, count: int) -> None:
    """Writes points as the collector does: one transaction under the job's row."""
    with locked_attempt(job.pk, epoch=job.epoch):
        now = timezone.now()
        Event.objects.bulk_create(
            Event(job=job, epoch=job.epoch, seq=n, kind="point", name="loss/train", step=n, value=1 / n, time=now)
            for n in range(first, first + count)
        )


class Page:
    """What a browser's live link does, with a network that is cut at random moments."""

    def __init__(self, address: str, headers: dict[str, str], chance: random.Random) -> None:
        self.address = address
        self.headers = headers
        self.chance = chance
        self.cursor = 0
        self.ids: list[int] = []
        self.steps: list[int] = []
        self.cuts = 0
        self.over = False

    async def follow(self) -> None:
        while not self.over:
            cut = self.chance.uniform(0.0, 0.4) if self.cuts < CUTS else None
            try:
                async with websockets.connect(self.address, additional_headers=self.headers, max_size=None) as socket:
                    await socket.send(json.dumps({"after": self.cursor}))
                    await asyncio.wait_for(self._read(socket), cut)
            except (TimeoutError, websockets.ConnectionClosed, OSError):
                self.cuts += 1

    async def _read(self, socket: Any) -> None:
        while not self.over:
            message = json.loads(await socket.recv())
            fresh = [e for e in message["events"] if e["id"] > self.cursor]
            assert [e["id"] for e in fresh] == sorted(e["id"] for e in fresh)
            self.ids += [e["id"] for e in fresh]
            self.steps += [e["step"] for e in fresh if e["kind"] == "point"]
            self.cursor = max(self.cursor, message["cursor"])
            self.over = message["job"]["state"] == State.DONE and not message["more"]


async def test_ten_pages_with_torn_sockets_see_every_point_once_and_in_order(web: House, job: Job) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(1)
    address = f"{web.url}/ws/jobs/{job.pk}/".replace("http", "ws")
    signed_in = await loop.run_in_executor(threads, lambda: headers("vera", origin=web.url))
    pages = [Page(address, signed_in, random.Random(chance.random())) for _ in range(SOCKETS)]
    following = [asyncio.create_task(page.follow()) for page in pages]

    said = 1
    while said <= POINTS:
        count = min(chance.randint(1, 120), POINTS + 1 - said)
        await loop.run_in_executor(threads, say_points, job, said, count)
        await announce(web, job)
        said += count
        await asyncio.sleep(0.02)
    # The end comes once every socket has had its cuts, else a quick machine would be done before.
    while any(page.cuts < CUTS for page in pages):
        assert not any(task.done() for task in following)
        await asyncio.sleep(0.05)
    await loop.run_in_executor(threads, finish, job)
    await asyncio.wait_for(asyncio.gather(*following), 60)

    stored = await loop.run_in_executor(threads, lambda: list(job.events.order_by("id").values_list("id", flat=True)))
    await loop.run_in_executor(threads, lambda: connection.close())
    for page in pages:
        assert page.ids == stored
        assert page.steps == list(range(1, POINTS + 1))
        assert page.cuts >= CUTS
    await loop.run_in_executor(threads, wait_until, lambda: not members(web, job))


def members(web: House, job: Job) -> int:
    """How many sockets still get hints about the job."""
    with redis.Redis.from_url(web.redis.url) as client:
        return int(client.zcard(f"asgi:group:{group_of(job.pk)}"))


async def announce(web: House, job: Job) -> None:
    from channels_redis.core import RedisChannelLayer

    layer = RedisChannelLayer(hosts=[web.redis.url], capacity=1)
    await layer.group_send(group_of(job.pk), {"type": "job.news"})
    await layer.close_pools()


def finish(job: Job) -> None:
    from webapp.jobs.lifecycle.transitions import job_transition

    assert job_transition(job.pk, to=State.DONE, of_epoch=job.epoch)


async def closing_code(address: str, headers: dict[str, str], say: str) -> int:
    async with websockets.connect(address, additional_headers=headers) as socket:
        try:
            await socket.send(say)
            while True:
                await asyncio.wait_for(socket.recv(), 10)
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0


@pytest.mark.parametrize("who", ["charlie", "nobody"])
async def test_a_stranger_learns_nothing_of_a_job(web: House, job: Job, who: str) -> None:
    def sent() -> dict[str, str]:
        if who == "nobody":
            return {"Origin": web.url}
        User.objects.create_user("charlie")
        return headers("charlie", origin=web.url)

    theirs = await asyncio.get_running_loop().run_in_executor(None, sent)
    address = f"{web.url}/ws/jobs/{job.pk}/".replace("http", "ws")
    other = f"{web.url}/ws/jobs/{job.pk + 1000}/".replace("http", "ws")
    assert await closing_code(address, theirs, '{"after": 0}') == 4404
    assert await closing_code(other, theirs, '{"after": 0}') == 4404


async def test_a_socket_from_another_site_is_refused(web: House, job: Job) -> None:
    run = asyncio.get_running_loop().run_in_executor
    theirs = await run(None, lambda: headers("vera", origin="http://evil.example"))
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"{web.url}/ws/jobs/{job.pk}/".replace("http", "ws"), additional_headers=theirs)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("say", ["[]", "x" * 5000, '{"after": "x"}', "[" * 4000])
async def test_what_no_page_of_ours_says_closes_the_socket(web: House, job: Job, say: str) -> None:
    run = asyncio.get_running_loop().run_in_executor
    mine = await run(None, lambda: headers("vera", origin=web.url))
    code = await closing_code(f"{web.url}/ws/jobs/{job.pk}/".replace("http", "ws"), mine, say)
    assert code in (1003, 1009)
