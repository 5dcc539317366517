"""A1, A2: nobody sees or changes what is not theirs, at any address. The table is in `matrix.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from websockets import ConnectionClosed, Origin
from websockets.sync.client import connect

from tests.webapp.datasets.server import Browser, serving
from tests.webapp.furnished import House, bearer, furnish
from tests.webapp.matrix import ASKED, BESIDE, PEOPLE, ROWS, SECRET, SIGN_IN, Row, routes
from webapp.api.urls import api
from webapp.datasets.models import Upload
from webapp.projects.models import Project, User

NINJAS = {"/api/v1/", "/api/v1/openapi.json"}
"""The API's description of itself."""
DJANGOS = {"/sign-in/", "/sign-out/"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
WRITING = ("INSERT", "UPDATE", "DELETE")


@pytest.fixture
def made(project: Project, alice: User, bob: User, vera: User, charlie: User) -> House:
    return furnish(project, dict(zip(PEOPLE, (alice, bob, vera, charlie, None), strict=True)))


@contextmanager
def undone() -> Iterator[list[str]]:
    """Yields the tables that were written to, sessions aside, and takes all of it back."""
    written: list[str] = []

    def noted(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        words = sql.split(maxsplit=3)
        if words[0] in WRITING and "django_session" not in sql:
            written.append(" ".join(words[:3]))
        return execute(sql, *rest)

    with transaction.atomic(), connection.execute_wrapper(noted):
        yield written
        transaction.set_rollback(True)


def as_browser(user: User | None, *, strict: bool = False) -> Client:
    client = Client(enforce_csrf_checks=strict)
    if user is not None:
        client.force_login(user)
    return client


def words_of(answer: Any) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return str(content.decode("latin-1"))


def outcome(answer: Any) -> int | str:
    """The status, or where it leads if that is the page of signing in."""
    comes_back = answer.headers.get("Location", "").startswith("/sign-in/?next=")
    return SIGN_IN if answer.status_code == 302 and comes_back else int(answer.status_code)


def test_every_address_has_a_row_and_no_row_is_of_one_that_has_gone() -> None:
    known, told = routes(), {row.path for row in ROWS}
    assert not known - told, (
        f"Nobody has said who may ask for {', '.join(sorted(known - told))}. Add a row per method to TABLE in "
        "tests/webapp/matrix.py, what is to be sent to FORMS or BODIES, and a new kind of handle to furnished.py."
    )
    assert not told - known, f"There is no address {', '.join(sorted(told - known))} any more: take its rows away."


@pytest.mark.slow
@pytest.mark.django_db
def test_an_address_answers_to_the_methods_of_its_rows_and_to_no_other(made: House) -> None:
    for path in sorted({row.path for row in ASKED}):
        rows = [row for row in ROWS if row.path == path]
        for method in set(METHODS) - {row.method for row in ROWS if row.path == path}:
            with undone():
                answer = made.ask(Row(method, path, {}), as_browser(made.people["owner"]))
            if path in NINJAS | DJANGOS:
                assert answer.status_code in (200, 302, 404, 405), f"{method} {path} says nothing of anybody's"
            elif method == "HEAD" and not rows[0].of_api and any(row.method == "GET" for row in rows):
                assert answer.status_code in (200, 404), f"HEAD {path} is a GET without its body"
            else:
                assert answer.status_code == 405, f"{method} {path} is answered, and has no row in the table"


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("row", ASKED, ids=str)
def test_each_gets_what_is_theirs_and_no_more(made: House, row: Row) -> None:
    for who, expected in row.answers.items():
        user = made.people[who]
        with undone() as written:
            client = Client() if row.of_api else as_browser(user)
            headers = bearer(user, may_write=True) if row.of_api and user else {}
            del written[:]
            answer = made.ask(row, client, headers=headers)
            assert outcome(answer) == expected, f"{row} by the {who}"
            if who in ("stranger", "anonymous") and "{token}" not in row.path:
                assert SECRET not in words_of(answer), f"{row} tells the {who} a name"
            if expected in (401, 403, 404, SIGN_IN):
                assert [table for table in written if "apitoken" not in table] == [], f"{row} by the {who}"


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("row", [row for row in ASKED if row.of_api and row.changes], ids=str)
def test_a_token_that_may_only_read_changes_nothing(made: House, row: Row) -> None:
    for who in PEOPLE[:-1]:
        user = made.people[who]
        assert user is not None
        headers = bearer(user, may_write=False)
        with undone() as written:
            assert made.ask(row, Client(), headers=headers).status_code == 403, who
            assert [table for table in written if "apitoken" not in table] == [], who


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("row", [row for row in ASKED if row.changes], ids=str)
def test_a_change_without_the_token_of_a_page_of_ours_is_refused(made: House, row: Row) -> None:
    """What another site's form would send: the session's cookie comes along, the token does not."""
    with undone() as written:
        client = as_browser(made.people["owner"], strict=True)
        del written[:]
        assert made.ask(row, client).status_code == 403
        assert written == []


def test_the_description_of_the_api_names_every_route_of_it() -> None:
    described = api.get_openapi_schema()["paths"]
    named = {f"{method.upper()} {path}" for path, on in described.items() for method in on}
    assert named == {str(row) for row in ROWS if row.of_api and row.path not in NINJAS}


@pytest.fixture
def port(transactional_db: None) -> Iterator[int]:
    with serving() as port:
        yield port


def test_what_is_answered_beside_django_knows_the_same_people(port: int, made: House) -> None:
    """The pieces of uploads and the sockets, of a real server."""
    for row in BESIDE:
        for who, expected in row.answers.items():
            browser = Browser(port, made.people[who])
            address = made.address(row)
            if row.method == "WS":
                assert hears(f"ws://127.0.0.1:{port}{address}", browser) == expected, f"{row} by the {who}"
            elif row.method == "PATCH":
                upload = Upload.objects.get(pk=made.handles["upload_id"])
                assert browser.patch(address, b"!", offset=upload.offset)[0] == expected, f"{row} by the {who}"
                gained = Upload.objects.get(pk=upload.pk).offset - upload.offset
                assert gained == (1 if expected == 204 else 0), f"{row} by the {who}"
            else:
                assert browser.request(row.method, address)[0] == expected, f"{row} by the {who}"


def hears(address: str, browser: Browser) -> int | str:
    """`told` where the socket tells of the job, else the code with which it is closed."""
    origin = f"http://127.0.0.1:{browser.port}"
    with connect(address, additional_headers={"Cookie": browser.headers["Cookie"]}, origin=Origin(origin)) as socket:
        try:
            socket.send('{"after": 0}')
            return "told" if SECRET in socket.recv(20) else "silence"
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0
