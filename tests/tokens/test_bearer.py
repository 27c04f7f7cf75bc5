"""What each credential is answered, at the door that all views share."""

import datetime
import time
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import DjangoAssertNumQueries
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from tests.tokens.support import bearer, texts, token_with
from tokens import bearer as door
from tokens import secret, throttle
from tokens.bearer import Reason, Refused
from tokens.models import ApiToken
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


class Echo(APIView):
    """A view that needs `fleet.read`."""

    required_permission = Permission.FLEET_READ

    def get(self, request: Request) -> Response:
        return Response({"ok": True})


class Undeclared(APIView):
    """A view whose author forgot the permission."""

    def get(self, request: Request) -> Response:
        return Response({"ok": True})


def ask(view: Any = Echo, *, address: str = "192.0.2.1", path: str = "/x", **headers: str) -> Any:
    request = RequestFactory().get(path, headers=headers, REMOTE_ADDR=address)
    return view.as_view()(request).render()


def reason_of(header: str | None, **given: Any) -> Reason:
    with pytest.raises(Refused) as caught:
        door.authenticate(header, **{"address": "192.0.2.1", **given})
    return caught.value.reason


def test_a_good_token_is_let_in_with_its_permissions() -> None:
    row, text = token_with("fleet.read", "metrics.read")
    principal = door.authenticate(f"bEaReR {text}", address="192.0.2.1")
    assert (principal.kind, principal.id, principal.name) == ("token", str(row.pk), "tok")
    assert principal.permissions == {"fleet.read", "metrics.read"}


def test_no_credential_is_challenged_without_an_error() -> None:
    answer = ask()
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh"'


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Digest x", "Token abc", ""])
def test_other_schemes_count_as_no_credential(header: str) -> None:
    assert ask(authorization=header)["WWW-Authenticate"] == 'Bearer realm="dockmesh"'


def bad_tokens() -> dict[str, str]:
    """One text for each way in which a token can be bad."""
    now = clock.now()
    _, expired = token_with(name="expired", expires_at=now - datetime.timedelta(seconds=1))
    _, revoked = token_with(name="revoked", revoked_at=now)
    _, disabled = token_with(name="disabled", is_enabled=False)
    row, _ = token_with(name="wrong")
    wrong = secret.TokenText(secret.Kind.API, row.public_id, "x" * 40)
    return {
        "malformed": "dmt_x",
        "empty": "",
        "unknown": str(secret.generate(secret.Kind.API)),
        "wrong": str(wrong),
        "expired": expired,
        "revoked": revoked,
        "disabled": disabled,
        "agent": str(secret.generate(secret.Kind.AGENT)),
        "enrollment": str(secret.generate(secret.Kind.ENROLLMENT)),
    }


def test_all_bad_tokens_get_the_same_bytes_in_the_api_and_in_plain_views() -> None:
    answers = set()
    for text in bad_tokens().values():
        answer = ask(**bearer(text))
        headers = texts(answer.items())
        answers.add(
            (answer.status_code, answer.content, headers["www-authenticate"], headers["content-type"])
        )
        with pytest.raises(Refused) as caught:
            door.authenticate(f"Bearer {text}", address="192.0.2.1")
        plain = door.refusal_response(caught.value)
        answers.add((plain.status_code, plain.content, plain["WWW-Authenticate"], plain["Content-Type"]))
    assert len(answers) == 1
    status, body, challenge, content_type = answers.pop()
    assert status == 401
    assert challenge == 'Bearer realm="dockmesh", error="invalid_token"'
    assert content_type == "application/problem+json"
    assert b"traceback" not in body.lower()


def test_each_bad_token_has_its_own_reason_for_the_operator() -> None:
    found = {name: reason_of(f"Bearer {text}") for name, text in bad_tokens().items()}
    assert found == {
        "malformed": Reason.MALFORMED,
        "empty": Reason.MALFORMED,
        "unknown": Reason.UNKNOWN,
        "wrong": Reason.WRONG_SECRET,
        "expired": Reason.EXPIRED,
        "revoked": Reason.REVOKED,
        "disabled": Reason.DISABLED,
        "agent": Reason.WRONG_KIND,
        "enrollment": Reason.WRONG_KIND,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "dmt_" + "a" * 4096,
        "dmt_\xe9\xff" + "a" * 60,
        "\u00b2" * 65,
        str(secret.generate(secret.Kind.API))[:-1] + "-",
        str(secret.generate(secret.Kind.API)) + "\n",
        "dmt_aaaaaaaaaaaa_" + "a" * 40 + "_000000",
    ],
    ids=["empty", "short", "long", "latin-1", "digits-that-are-none", "checksum", "line-break", "zeros"],
)
def test_a_text_that_is_no_token_is_refused_without_a_query(
    text: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert reason_of(f"Bearer {text}") is Reason.MALFORMED


def test_a_good_token_costs_one_query_and_once_a_minute_a_write(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    row, text = token_with("fleet.read")
    monkeypatch.setattr(clock, "now", lambda: NOW)
    with django_assert_num_queries(2):
        door.authenticate(f"Bearer {text}", address="192.0.2.7", user_agent="Prometheus/3.0")
    with django_assert_num_queries(1):
        door.authenticate(f"Bearer {text}", address="192.0.2.8")
    row.refresh_from_db()
    assert (row.last_used_at, row.last_used_address, row.last_used_user_agent) == (
        NOW,
        "192.0.2.7",
        "Prometheus/3.0",
    )
    monkeypatch.setattr(clock, "now", lambda: NOW + datetime.timedelta(seconds=60))
    with django_assert_num_queries(2):
        door.authenticate(f"Bearer {text}", address="192.0.2.8")


def test_a_user_agent_with_control_characters_is_stored_without_them() -> None:
    row, text = token_with()
    door.authenticate(f"Bearer {text}", address="192.0.2.1", user_agent="a\x00b\x85c\ud800" + "x" * 5000)
    row.refresh_from_db()
    assert row.last_used_user_agent.startswith("a?b?c?xxx")
    assert len(row.last_used_user_agent) == 200


def test_a_token_in_the_query_a_cookie_or_the_body_is_no_credential() -> None:
    _, text = token_with("fleet.read")
    for request in (
        RequestFactory().get(f"/x?token={text}&access_token={text}"),
        RequestFactory().get("/x", headers={"cookie": f"token={text}; Authorization=Bearer {text}"}),
        RequestFactory().post("/x", {"access_token": text}),
    ):
        answer = Echo.as_view()(request).render()
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh"'


def test_a_lacking_permission_is_403_with_insufficient_scope_and_audited() -> None:
    row, text = token_with("metrics.read")
    answer = ask(**bearer(text))
    assert answer.status_code == 403
    assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh", error="insufficient_scope"'
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_kind, entry.actor_id) == ("permission.refused", "token", str(row.pk))
    assert entry.changes == {"refused": "fleet.read", "path": "/x"}


def test_the_role_of_a_token_holds_from_the_next_request() -> None:
    row, text = token_with("fleet.read")
    assert ask(**bearer(text)).status_code == 200
    row.role.permissions = []
    row.role.save()
    assert ask(**bearer(text)).status_code == 403


def test_a_view_that_declares_no_permission_lets_nobody_in() -> None:
    _, text = token_with(*Permission)
    assert ask(Undeclared, **bearer(text)).status_code == 403
    assert ask(Undeclared).status_code == 401


@pytest.mark.parametrize(
    ("address", "cidrs", "is_allowed"),
    [
        ("192.0.2.1", ["192.0.2.0/24"], True),
        ("192.0.2.1", ["192.0.2.1"], True),
        ("192.0.3.1", ["192.0.2.0/24"], False),
        ("::ffff:192.0.2.1", ["192.0.2.0/24"], True),
        ("::ffff:192.0.3.1", ["192.0.2.0/24"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["192.0.2.0/24"], False),
        ("192.0.2.1", ["10.0.0.0/8", "192.0.2.1/32"], True),
        ("not an address", ["0.0.0.0/0"], False),
        ("", ["0.0.0.0/0"], False),
    ],
)
def test_the_allow_list_decides_by_the_client_s_address(
    address: str, cidrs: list[str], is_allowed: bool
) -> None:
    _, text = token_with("fleet.read", allowed_cidrs=cidrs)
    answer = ask(address=address, **bearer(text))
    assert answer.status_code == (200 if is_allowed else 403)
    if not is_allowed:
        assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh", error="insufficient_scope"'


def test_a_bad_token_s_allow_list_is_never_told() -> None:
    _, text = token_with(allowed_cidrs=["10.0.0.0/8"], revoked_at=clock.now())
    assert ask(**bearer(text)).status_code == 401


def test_a_hundred_bad_tokens_a_minute_are_throttled_and_a_good_one_still_works() -> None:
    _, good = token_with("fleet.read")
    bad = str(secret.generate(secret.Kind.API))
    answers = [ask(**bearer(bad)) for _ in range(100)]
    assert {answer.status_code for answer in answers[:99]} == {401}
    assert answers[99].status_code == 429
    assert 0 < int(answers[99]["Retry-After"]) <= 60
    assert ask(**bearer(good)).status_code == 200
    assert ask(address="192.0.2.2", **bearer(bad)).status_code == 401


def test_a_token_that_has_ended_keeps_its_reason_however_often_it_comes() -> None:
    _, revoked = token_with(revoked_at=clock.now())
    assert {ask(**bearer(revoked)).status_code for _ in range(150)} == {401}
    assert reason_of(f"Bearer {revoked}") is Reason.REVOKED
    assert reason_of("Bearer nonsense") is Reason.MALFORMED


def test_the_minute_of_a_throttled_address_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    assert [throttle.count_bad("192.0.2.1") for _ in range(100)][-1] == 60
    moment[0] += 59.5
    assert throttle.count_bad("192.0.2.1") == 1
    moment[0] += 0.5
    assert throttle.count_bad("192.0.2.1") == 0


def test_a_million_addresses_do_not_fill_the_memory() -> None:
    for number in range(throttle.MAX_ADDRESSES + 500):
        throttle.count_bad(f"2001:db8:{number // 65536:x}:{number % 65536:x}::1")
    assert len(throttle._windows) == throttle.MAX_ADDRESSES


def test_addresses_of_one_ipv6_network_count_together() -> None:
    for number in range(99):
        throttle.count_bad(f"2001:db8::{number:x}")
    assert throttle.count_bad("2001:db8::ffff") > 0
    assert throttle.count_bad("::ffff:192.0.2.1") == 0


def test_a_flood_of_refusals_writes_few_entries_and_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:

    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    _, text = token_with("metrics.read")
    for _ in range(500):
        assert ask(**bearer(text)).status_code == 403
    assert AuditEntry.objects.count() == 1
    moment[0] += 61
    ask(**bearer(text))
    assert AuditEntry.objects.order_by("-sequence")[0].changes["repeated"] == 499


def test_refusals_of_many_actors_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokens import refusals
    from tokens.principals import Principal

    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    for number in range(refusals.MAX_A_MINUTE + 40):
        refusals.note(Principal("agent", str(number), f"host {number}", frozenset()), why="fleet.read")
    assert AuditEntry.objects.count() == refusals.MAX_A_MINUTE
    moment[0] += 61
    refusals.note(Principal("agent", "1", "host 1", frozenset()), why="fleet.read")
    assert AuditEntry.objects.filter(changes={"left_out": 40}).count() == 1


def test_the_secret_is_in_no_column() -> None:
    row, text = token_with()
    secret_part = text.split("_")[2]
    assert all(secret_part not in str(value) for value in ApiToken.objects.filter(pk=row.pk).values_list()[0])
