"""Coming in: password, link, lock."""

from __future__ import annotations

import datetime
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.utils import timezone

from webapp.projects import services
from webapp.projects.models import SignInLink, User

PASSPHRASE = "a long enough passphrase"


def _path(address: str) -> str:
    return urlsplit(address).path


def test_a_page_asks_a_stranger_to_sign_in_and_then_goes_on(client: Client, alice: User) -> None:
    answer = client.get("/queue/")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/sign-in/?next=/queue/"
    answer = client.post(answer.headers["Location"], {"username": "alice", "password": PASSPHRASE, "next": "/queue/"})
    assert answer.headers["Location"] == "/queue/"


def test_the_e_mail_address_serves_as_the_name_in_any_case(client: Client, alice: User) -> None:
    answer = client.post("/sign-in/", {"username": "Alice@Example.org", "password": PASSPHRASE})
    assert answer.headers["Location"] == "/"


def test_a_wrong_password_says_what_to_check_and_keeps_the_name(client: Client, alice: User) -> None:
    answer = client.post("/sign-in/", {"username": "alice", "password": "wrong"})
    page = answer.content.decode()
    assert "No account has this name and password" in page
    assert 'value="alice"' in page


def test_the_sixth_wrong_password_finds_the_door_locked_even_for_the_right_one(client: Client, alice: User) -> None:
    for _ in range(5):
        client.post("/sign-in/", {"username": "alice", "password": "wrong"})
    answer = client.post("/sign-in/", {"username": "alice", "password": PASSPHRASE})
    assert answer.status_code == 429
    assert "Locked for 15 minutes" in answer.content.decode()
    assert "_auth_user_id" not in client.session


def test_the_address_and_the_name_share_one_count_of_wrong_passwords(client: Client, alice: User) -> None:
    for name in ("alice", "alice@example.org") * 3:
        answer = client.post("/sign-in/", {"username": name, "password": "wrong"})
    assert answer.status_code == 429


def test_a_link_signs_in_once_and_only_by_its_button(client: Client, alice: User) -> None:
    path = _path(services.signin_link_create(alice))
    for _ in range(2):
        assert "Welcome, alice" in client.get(path).content.decode()
    assert "_auth_user_id" not in client.session
    assert client.post(path).headers["Location"] == "/"
    assert client.session["_auth_user_id"] == str(alice.pk)
    other = Client()
    assert other.post(path).status_code == 410
    assert "used up" in other.get(path).content.decode()
    assert "_auth_user_id" not in other.session


def test_a_link_dies_after_a_day(client: Client, alice: User) -> None:
    path = _path(services.signin_link_create(alice))
    SignInLink.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
    assert client.post(path).status_code == 410


def test_a_link_of_somebody_switched_off_opens_nothing(client: Client, alice: User) -> None:
    path = _path(services.signin_link_create(alice))
    User.objects.update(is_active=False)
    assert client.post(path).status_code == 410
    assert "_auth_user_id" not in client.session


def test_the_server_keeps_the_hash_of_a_link_and_not_the_link(alice: User) -> None:
    token = services.signin_link_create(alice).rstrip("/").rsplit("/", 1)[1]
    link = SignInLink.objects.get()
    assert token not in str(vars(link))
    assert len(link.token_hash) == 64


@pytest.mark.django_db
def test_an_invitation_makes_a_person_once_and_never_takes_rights_away() -> None:
    first = services.user_invite("Dana@example.org", admin=True)
    again = services.user_invite("dana@EXAMPLE.org")
    assert first == again
    again.refresh_from_db()
    assert again.is_superuser
    assert not again.has_usable_password()


@pytest.mark.django_db
def test_whoever_came_by_a_link_can_set_a_password_and_stays_signed_in(client: Client) -> None:
    user = services.user_invite("dana@example.org")
    client.post(_path(services.signin_link_create(user)))
    words = "correct horse battery staple"
    assert client.post("/account/", {"new_password1": words, "new_password2": words}).status_code == 302
    assert client.get("/account/").status_code == 200
    assert Client().post("/sign-in/", {"username": "dana@example.org", "password": words}).status_code == 302


def test_signing_out_takes_a_button_not_a_link(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/sign-out/").status_code == 405
    client.post("/sign-out/")
    assert "_auth_user_id" not in client.session
