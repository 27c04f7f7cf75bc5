"""Rotation is told apart from guessing; of several at once one is done."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from metrics import scrapelog
from metrics.models import ScrapeRecord
from tests.tokens.support import bearer, token_with, user_with
from tokens import refusals, throttle, uses
from tokens.models import SecretUse
from tokens.principals import SYSTEM
from tokens.services import revoke_token, rotate_token

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _afresh() -> None:
    refusals.forget()
    throttle.forget()


def scrape(text: str, agent: str = "Prometheus/3.5.0", address: str = "192.0.2.1") -> tuple[int, bytes]:
    answer: Any = Client(REMOTE_ADDR=address).get("/metrics", headers={**bearer(text), "user-agent": agent})
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return answer.status_code, body


def test_an_old_secret_is_ended_and_never_a_guess() -> None:
    token, first = token_with("metrics.read")
    olds = [first]
    for _ in range(3):
        olds.append(rotate_token(principal=SYSTEM, token_id=token.pk).text)
    new = olds.pop()
    unknown = scrape(token_with("metrics.read", name="other")[1][:-1] + "0")
    for _ in range(throttle.LIMIT):
        for old in olds:
            assert scrape(old) == unknown
    assert scrape(new)[0] == 200
    scrapelog.log.flush()
    refused = ScrapeRecord.objects.filter(token_name="tok").exclude(refusal="").get()
    assert (refused.refusal, refused.count) == ("old secret, ended by a rotation", 3 * throttle.LIMIT)
    entry = AuditEntry.objects.get(action="permission.refused")
    assert (entry.actor_name, entry.target_name) == ("tok", "old secret, ended by a rotation")
    revoke_token(principal=SYSTEM, token_id=token.pk)
    assert scrape(first) == unknown
    scrapelog.log.flush()
    assert ScrapeRecord.objects.filter(refusal="revoked").exists()


def test_a_wrong_secret_of_a_rotated_token_is_still_a_guess() -> None:
    from tokens import secret

    token, _ = token_with("metrics.read")
    rotate_token(principal=SYSTEM, token_id=token.pk, overlap_seconds=60)
    wrong = str(secret.renewed(secret.Kind.API, token.public_id))
    answers = {scrape(wrong)[0] for _ in range(throttle.LIMIT)}
    assert answers == {401, 429}


def test_the_page_says_who_comes_with_which_secret_during_the_overlap(client: Client) -> None:
    token, old = token_with("metrics.read")
    new = rotate_token(principal=SYSTEM, token_id=token.pk, overlap_seconds=3600).text
    assert scrape(old, "Prometheus/2.42.0", "192.0.2.7")[0] == 200
    assert scrape(new, "Prometheus/3.5.0", "192.0.2.8")[0] == 200
    client.force_login(user_with("tokens.manage", name="ada"))
    page = " ".join(client.get(f"/settings/tokens/{token.pk}/").content.decode().split())
    for who in ("192.0.2.7", "Prometheus/2.42.0", "192.0.2.8", "Prometheus/3.5.0"):
        assert who in page
    uses_shown = SecretUse.objects.values_list("address", "is_previous")
    assert set(uses_shown) == {("192.0.2.7", True), ("192.0.2.8", False)}
    assert old.split("_")[2] not in page
    assert new.split("_")[2] not in page


def test_uses_are_written_once_a_minute_and_bounded(
    django_assert_num_queries: DjangoAssertNumQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = token_with("metrics.read")
    ends = clock.now() + datetime.timedelta(hours=1)

    def come(address: str) -> None:
        uses.note(
            token.pk, overlap_ends_at=ends, is_previous=True, address=address, user_agent="x", now=clock.now()
        )

    come("192.0.2.1")
    with django_assert_num_queries(0):
        come("192.0.2.1")
    for number in range(uses.MOST + 10):
        come(f"2001:db8::{number:x}")
    assert SecretUse.objects.filter(token=token).count() == uses.MOST


@pytest.mark.django_db(transaction=True)
def test_of_many_rotations_by_rest_at_once_one_is_201() -> None:
    _, admin = token_with("tokens.manage", name="admin's")
    for overlap in (0, 60):
        token, _ = token_with("tokens.manage", name=f"t{overlap}")

        def rotate(_: int, pk: int = token.pk, overlap: int = overlap) -> int:
            try:
                return (
                    Client()
                    .post(
                        f"/api/v1/tokens/{pk}/rotate",
                        {"overlap_seconds": overlap},
                        content_type="application/json",
                        headers=bearer(admin),
                    )
                    .status_code
                )
            finally:
                connection.close()

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(rotate, range(6))) == [201, 409, 409, 409, 409, 409]
