"""Tokens and roles through the REST API, as a client sees them."""

import datetime
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from tests.tokens.support import bearer, token_with, user_with
from tokens import secret
from tokens.models import ApiToken, Role
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

FUTURE = "2099-01-01T00:00:00Z"


class Api:
    """A client with an API token."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return Client().generic(
            method, f"/api/v1/{path}", raw, content_type="application/json", headers=bearer(self.text)
        )


@pytest.fixture
def admin() -> Api:
    """Holds every permission."""
    return Api(token_with(*Permission, name="admin's")[1])


@pytest.fixture
def limited() -> Api:
    """May manage tokens and roles, and nothing else but scraping."""
    return Api(token_with("tokens.manage", "roles.manage", "metrics.read", name="limited")[1])


def works(text: str, permission: str = "tokens.manage") -> int:
    """The status that the token gets where `permission` is needed."""
    paths = {"tokens.manage": "tokens", "roles.manage": "roles"}
    return int(Api(text)("GET", paths[permission]).status_code)


def test_making_a_token_shows_it_once_and_keeps_it_out_of_every_store(admin: Api) -> None:
    answer = admin("POST", "tokens", {"name": "prometheus", "role": "viewer"})
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    text = body["token"]
    assert secret.SHAPE.match(text)
    assert (body["name"], body["role"], body["permissions"]) == ("prometheus", "viewer", ["fleet.read"])
    assert (body["state"], body["expires_at"], body["allowed_cidrs"]) == ("active", None, [])
    assert body["created_by"] == "admin's"
    for path in ("tokens", f"tokens/{body['id']}"):
        shown = admin("GET", path)
        assert shown.status_code == 200
        assert text.split("_")[2] not in shown.content.decode()
        assert "digest" not in shown.content.decode()
    entry = AuditEntry.objects.get(action="token.created")
    assert text.split("_")[2] not in json.dumps(entry.changes)
    assert (entry.actor_kind, entry.target_name) == ("token", "prometheus")


def test_a_token_takes_role_by_id_expiry_and_networks(admin: Api) -> None:
    viewer = Role.objects.get(name="viewer")
    answer = admin(
        "POST",
        "tokens",
        {
            "name": "a",
            "role": viewer.pk,
            "expires_at": "2099-01-01T02:00:00+02:00",
            "allowed_cidrs": ["10.0.0.0/8", "::ffff:192.0.2.1", "2001:DB8::/32", "10.0.0.0/255.0.0.0"],
        },
    )
    assert answer.status_code == 201
    assert answer.json()["expires_at"] == FUTURE
    assert answer.json()["allowed_cidrs"] == ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\ud800b"}, "name"),
        ({"role": "nobody's"}, "role"),
        ({"role": True}, "role"),
        ({"role": None}, "role"),
        ({"role": ["viewer"]}, "role"),
        ({"role": 2**63 - 1}, "role"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": 5}, "expires_at"),
        ({"expires_at": True}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"allowed_cidrs": "10.0.0.0/8"}, "allowed_cidrs"),
        ({"allowed_cidrs": ["10.0.0.1/8"]}, "allowed_cidrs[0]"),
        ({"allowed_cidrs": ["10.0.0.0/8", "nonsense"]}, "allowed_cidrs[1]"),
        ({"allowed_cidrs": [5]}, "allowed_cidrs[0]"),
        ({"allowed_cidrs": ["10.0.0.0/33"]}, "allowed_cidrs[0]"),
        ({"allowed_cidrs": ["fe80::1%eth0"]}, "allowed_cidrs[0]"),
        ({"allowed_cidrs": ["10.0.0.1"] * 65}, "allowed_cidrs"),
        ({"permissions": ["metrics.read"]}, "permissions"),
        ({"is_enabled": False}, "is_enabled"),
    ],
)
def test_bad_fields_are_400_with_the_field_s_name_and_nothing_is_stored(
    admin: Api, change: dict[str, Any], field: str
) -> None:
    before = ApiToken.objects.count()
    answer = admin("POST", "tokens", {"name": "a", "role": "viewer", **change})
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert list(answer.json()["errors"]) == [field]
    assert ApiToken.objects.count() == before
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b"{", b'{"name":"a","name":"b","role":"viewer"}', b"\xff", b"[" * 5000],
)
def test_bodies_that_are_no_token_are_400(admin: Api, raw: bytes) -> None:
    assert admin("POST", "tokens", raw).status_code == 400


def test_a_live_name_is_taken_and_a_revoked_one_is_free(admin: Api) -> None:
    first = admin("POST", "tokens", {"name": "a", "role": "viewer"}).json()
    again = admin("POST", "tokens", {"name": "a", "role": "viewer"})
    assert again.status_code == 409
    assert list(again.json()["errors"]) == ["name"]
    admin("POST", f"tokens/{first['id']}/revoke")
    assert admin("POST", "tokens", {"name": "a", "role": "viewer"}).status_code == 201


def test_nobody_makes_a_token_above_their_own_permissions(limited: Api) -> None:
    for role in ("admin", "operator", "viewer"):
        answer = limited("POST", "tokens", {"name": "a", "role": role})
        assert answer.status_code == 403
        assert answer["Content-Type"] == "application/problem+json"
    assert not ApiToken.objects.filter(name="a").exists()
    entries = AuditEntry.objects.all()
    assert {entry.action for entry in entries} == {"permission.refused"}
    assert {entry.actor_name for entry in entries} == {"limited"}


def test_nobody_makes_or_widens_a_role_above_their_own_permissions(limited: Api) -> None:
    assert limited("POST", "roles", {"name": "big", "permissions": ["audit.read"]}).status_code == 403
    assert not Role.objects.filter(name="big").exists()
    made = limited("POST", "roles", {"name": "small", "permissions": ["metrics.read"]})
    assert made.status_code == 201
    path = f"roles/{made.json()['id']}"
    assert limited("PATCH", path, {"permissions": ["metrics.read", "fleet.read"]}).status_code == 403
    assert limited("GET", path).json()["permissions"] == ["metrics.read"]


def test_nobody_changes_a_role_that_holds_more_than_they_do(limited: Api, admin: Api) -> None:
    role = admin("POST", "roles", {"name": "big", "permissions": ["audit.read", "metrics.read"]}).json()
    for change in ({"permissions": ["metrics.read"]}, {"name": "mine"}):
        assert limited("PATCH", f"roles/{role['id']}", change).status_code == 403
    assert Role.objects.get(pk=role["id"]).name == "big"


def test_nobody_changes_or_rotates_a_token_above_themselves_but_may_revoke_it(
    limited: Api, admin: Api
) -> None:
    made = admin("POST", "tokens", {"name": "a", "role": "viewer"}).json()
    assert limited("PATCH", f"tokens/{made['id']}", {"allowed_cidrs": []}).status_code == 403
    assert limited("PATCH", f"tokens/{made['id']}", {"name": "mine"}).status_code == 403
    assert limited("POST", f"tokens/{made['id']}/rotate", {"overlap_seconds": 60}).status_code == 403
    row = ApiToken.objects.get(pk=made["id"])
    assert (row.name, row.rotated_at) == ("a", None)
    assert limited("POST", f"tokens/{made['id']}/revoke").status_code == 200


def test_nobody_disables_enables_or_deletes_a_token_above_themselves(limited: Api, admin: Api) -> None:
    made = admin("POST", "tokens", {"name": "a", "role": "viewer"}).json()
    path = f"tokens/{made['id']}"
    assert limited("PATCH", path, {"is_enabled": False}).status_code == 403
    admin("PATCH", path, {"is_enabled": False})
    assert limited("PATCH", path, {"is_enabled": True}).status_code == 403
    for _ in ("disabled", "revoked"):
        refused = limited("DELETE", path)
        assert refused.status_code == 403
        assert refused["WWW-Authenticate"] == 'Bearer realm="dockmesh", error="insufficient_scope"'
        assert "fleet.read" in refused.json()["detail"]
        assert limited("POST", f"{path}/revoke").status_code == 200
    assert ApiToken.objects.filter(pk=made["id"]).exists()
    refusals = AuditEntry.objects.filter(action="permission.refused", actor_name="limited")
    assert refusals.count() == 1
    assert admin("DELETE", path).status_code == 204


def test_nobody_deletes_a_role_that_holds_more_than_they_do(limited: Api, admin: Api) -> None:
    role = admin("POST", "roles", {"name": "big", "permissions": ["audit.read"]}).json()
    assert limited("DELETE", f"roles/{role['id']}").status_code == 403
    assert Role.objects.filter(pk=role["id"]).exists()
    assert admin("DELETE", f"roles/{role['id']}").status_code == 204


def test_nobody_raises_a_token_to_a_role_above_themselves(limited: Api) -> None:
    role = limited("POST", "roles", {"name": "scrape", "permissions": ["metrics.read"]}).json()
    token = limited("POST", "tokens", {"name": "a", "role": "scrape"}).json()
    assert limited("PATCH", f"tokens/{token['id']}", {"role": "admin"}).status_code == 403
    assert ApiToken.objects.get(pk=token["id"]).role_id == role["id"]


@pytest.mark.parametrize("permissions", [["metrics.write"], ["metrics.read", "x"], "metrics.read", [1], None])
def test_a_role_with_an_unknown_permission_is_400(admin: Api, permissions: Any) -> None:
    answer = admin("POST", "roles", {"name": "a", "permissions": permissions})
    assert answer.status_code == 400
    assert all(field.startswith("permissions") for field in answer.json()["errors"])
    assert not Role.objects.filter(name="a").exists()


def test_built_in_roles_can_be_neither_changed_nor_deleted(admin: Api) -> None:
    for name in ("admin", "operator", "viewer"):
        role = Role.objects.get(name=name)
        assert admin("PATCH", f"roles/{role.pk}", {"permissions": []}).status_code == 409
        assert admin("PATCH", f"roles/{role.pk}", {"name": "x"}).status_code == 409
        assert admin("DELETE", f"roles/{role.pk}").status_code == 409
        role.refresh_from_db()
        assert role.name == name


@pytest.mark.parametrize("name", ["admin", "Admin", "taken", "", "a\tb"])
def test_a_role_s_name_is_checked(admin: Api, name: str) -> None:
    admin("POST", "roles", {"name": "taken", "permissions": []})
    answer = admin("POST", "roles", {"name": name, "permissions": []})
    assert answer.status_code in (400, 409)
    assert list(answer.json()["errors"]) == ["name"]


def test_a_role_in_use_stays_and_an_unused_one_goes(admin: Api) -> None:
    role = admin("POST", "roles", {"name": "r", "permissions": ["metrics.read"], "description": "d"}).json()
    token = admin("POST", "tokens", {"name": "a", "role": "r"}).json()
    assert admin("DELETE", f"roles/{role['id']}").status_code == 409
    assert admin("DELETE", f"tokens/{token['id']}").status_code == 204
    assert admin("DELETE", f"roles/{role['id']}").status_code == 204
    assert admin("GET", f"roles/{role['id']}").status_code == 404
    assert admin("DELETE", f"roles/{role['id']}").status_code == 404


def test_a_change_of_the_role_holds_from_the_next_request(admin: Api) -> None:
    role = admin("POST", "roles", {"name": "r", "permissions": ["roles.manage"]}).json()
    text = admin("POST", "tokens", {"name": "a", "role": "r"}).json()["token"]
    assert works(text, "roles.manage") == 200
    assert admin("PATCH", f"roles/{role['id']}", {"permissions": []}).status_code == 200
    assert works(text, "roles.manage") == 403


def test_changing_a_token_and_what_the_audit_log_says(admin: Api) -> None:
    made = admin("POST", "tokens", {"name": "a", "role": "viewer"}).json()
    answer = admin("PATCH", f"tokens/{made['id']}", {"name": "b", "is_enabled": False})
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["state"]) == ("b", "disabled")
    entry = AuditEntry.objects.get(action="token.changed")
    assert entry.changes == {"name": ["a", "b"], "is_enabled": [True, False]}
    assert admin("PATCH", f"tokens/{made['id']}", {"name": "b"}).status_code == 200
    assert AuditEntry.objects.filter(action="token.changed").count() == 1
    assert works(made["token"]) == 401
    for bad in ({"is_enabled": 1}, {"is_enabled": "no"}, {"expires_at": "2020-01-01T00:00:00Z"}, {"x": 1}):
        assert admin("PATCH", f"tokens/{made['id']}", bad).status_code == 400


def test_an_expired_token_may_be_renamed_and_prolonged(admin: Api) -> None:
    row, text = token_with("tokens.manage", expires_at=clock.now() - datetime.timedelta(days=1))
    assert works(text) == 401
    assert row.expires_at
    same = row.expires_at.isoformat()
    assert admin("PATCH", f"tokens/{row.pk}", {"name": "n", "expires_at": same}).status_code == 200
    assert admin("PATCH", f"tokens/{row.pk}", {"expires_at": FUTURE}).status_code == 200
    assert works(text) == 200


def test_rotating_with_an_overlap_keeps_both_secrets_and_then_ends_the_old_one(
    admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, old = token_with("tokens.manage")
    answer = admin("POST", f"tokens/{row.pk}/rotate", {"overlap_seconds": 60})
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    new = answer.json()["token"]
    assert new != old
    assert (works(old), works(new)) == (200, 200)
    assert admin("POST", f"tokens/{row.pk}/rotate", {"overlap_seconds": 60}).status_code == 409
    later = clock.now() + datetime.timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (works(old), works(new)) == (401, 200)
    assert admin("POST", f"tokens/{row.pk}/rotate", {"overlap_seconds": 0}).status_code == 201


def test_rotating_without_an_overlap_ends_the_old_secret_at_once(admin: Api) -> None:
    row, old = token_with("tokens.manage")
    new = admin("POST", f"tokens/{row.pk}/rotate", {}).json()["token"]
    assert (works(old), works(new)) == (401, 200)


@pytest.mark.parametrize("overlap", [-1, 2592001, "60", True, 1.5, None, 2**63])
def test_a_bad_overlap_is_400(admin: Api, overlap: Any) -> None:
    row, old = token_with("tokens.manage")
    answer = admin("POST", f"tokens/{row.pk}/rotate", {"overlap_seconds": overlap})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["overlap_seconds"]
    assert works(old) == 200


def test_a_revoked_token_is_refused_everywhere_and_stays_so(admin: Api) -> None:
    made = admin("POST", "tokens", {"name": "a", "role": "admin"}).json()
    assert works(made["token"]) == 200
    rotated = admin("POST", f"tokens/{made['id']}/rotate", {"overlap_seconds": 600}).json()
    for _ in range(2):
        answer = admin("POST", f"tokens/{made['id']}/revoke")
        assert (answer.status_code, answer.json()["state"]) == (200, "revoked")
    assert (works(made["token"]), works(rotated["token"])) == (401, 401)
    assert AuditEntry.objects.filter(action="token.revoked").count() == 1
    assert admin("PATCH", f"tokens/{made['id']}", {"is_enabled": True}).status_code == 409
    assert admin("POST", f"tokens/{made['id']}/rotate", {"overlap_seconds": 0}).status_code == 409


def test_a_deleted_token_is_gone(admin: Api) -> None:
    made = admin("POST", "tokens", {"name": "a", "role": "admin"}).json()
    assert admin("DELETE", f"tokens/{made['id']}").status_code == 204
    assert works(made["token"]) == 401
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/revoke"),
        ("POST", "/rotate"),
    ):
        assert admin(method, f"tokens/{made['id']}{path}", {}).status_code == 404
    assert AuditEntry.objects.get(action="token.deleted").target_name == "a"


def test_lists_are_paged_and_filtered(admin: Api) -> None:
    now = clock.now()
    token_with(name="expired", expires_at=now - datetime.timedelta(days=1))
    token_with(name="revoked", revoked_at=now)
    token_with(name="disabled", is_enabled=False)
    for state, names in (
        ("active", ["admin's"]),
        ("expired", ["expired"]),
        ("revoked", ["revoked"]),
        ("disabled", ["disabled"]),
    ):
        body = admin("GET", f"tokens?state={state}").json()
        assert [row["name"] for row in body["results"]] == names
        assert {row["state"] for row in body["results"]} == {state}
    body = admin("GET", "tokens?page_size=3&page=2").json()
    assert (body["count"], len(body["results"]), body["next"]) == (4, 1, None)
    assert admin("GET", "tokens?state=odd").status_code == 400
    assert admin("GET", "tokens?nonsense=1").status_code == 400
    assert [row["name"] for row in admin("GET", "roles?is_builtin=true").json()["results"]] == [
        "admin",
        "operator",
        "viewer",
    ]


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "tokens", "tokens.manage"),
        ("POST", "tokens", "tokens.manage"),
        ("GET", "tokens/1", "tokens.manage"),
        ("PATCH", "tokens/1", "tokens.manage"),
        ("DELETE", "tokens/1", "tokens.manage"),
        ("POST", "tokens/1/rotate", "tokens.manage"),
        ("POST", "tokens/1/revoke", "tokens.manage"),
        ("GET", "roles", "tokens.manage roles.manage"),
        ("POST", "roles", "roles.manage"),
        ("GET", "roles/1", "tokens.manage roles.manage"),
        ("PATCH", "roles/1", "roles.manage"),
        ("DELETE", "roles/1", "roles.manage"),
    ],
)
def test_every_endpoint_needs_its_permission(method: str, path: str, needed: str) -> None:
    others = Api(token_with(*(set(Permission) - set(needed.split())), name="all others")[1])
    answer = others(method, path, {})
    assert answer.status_code == 403
    assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh", error="insufficient_scope"'
    anonymous = Client().generic(method, f"/api/v1/{path}", b"{}", content_type="application/json")
    assert anonymous.status_code == 401
    assert anonymous["WWW-Authenticate"] == 'Bearer realm="dockmesh"'


@pytest.mark.parametrize("permission", ["tokens.manage", "roles.manage"])
def test_whoever_makes_tokens_or_roles_sees_which_roles_there_are(permission: str) -> None:
    one = Api(token_with(permission, name="one")[1])
    names = [role["name"] for role in one("GET", "roles").json()["results"]]
    assert names == ["admin", "operator", "role of one", "viewer"]
    assert one("GET", f"roles/{Role.objects.get(name='viewer').pk}").json()["permissions"] == ["fleet.read"]
    assert one("HEAD", "roles").status_code == 200


def test_managing_tokens_alone_changes_no_role() -> None:
    one = Api(token_with("tokens.manage", "fleet.read", name="one")[1])
    role = Role.objects.get(name="role of one")
    for method, path in (("POST", "roles"), ("PATCH", f"roles/{role.pk}"), ("DELETE", f"roles/{role.pk}")):
        assert one(method, path, {"name": "new", "permissions": []}).status_code == 403
    assert AuditEntry.objects.get().target_name == "roles.manage"
    assert Role.objects.get(pk=role.pk).permissions == ["tokens.manage", "fleet.read"]


def test_a_session_post_needs_the_csrf_token_and_a_bearer_post_does_not(admin: Api) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with("tokens.manage", "fleet.read"))
    assert client.get("/api/v1/tokens").status_code == 200
    body = json.dumps({"name": "a", "role": "viewer"})
    refused = client.post("/api/v1/tokens", body, content_type="application/json")
    assert refused.status_code == 403
    assert not ApiToken.objects.filter(name="a").exists()
    assert admin("POST", "tokens", {"name": "a", "role": "viewer"}).status_code == 201


def test_a_disabled_user_s_session_is_no_longer_let_in() -> None:
    user = user_with("tokens.manage")
    client = Client()
    client.force_login(user)
    user.is_active = False
    user.save()
    assert client.get("/api/v1/tokens").status_code == 401


def test_other_content_types_are_415(admin: Api) -> None:
    answer = Client().post("/api/v1/tokens", {"name": "a"}, headers=bearer(admin.text))
    assert answer.status_code == 415


def test_an_id_too_large_for_the_database_is_404(admin: Api) -> None:
    assert admin("GET", f"tokens/{10**30}").status_code == 404
    assert admin("POST", f"tokens/{10**30}/revoke").status_code == 404
    assert admin("DELETE", f"roles/{10**30}").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_succeeds_and_one_is_409() -> None:
    admin = Api(token_with(*Permission, name="admin's")[1])
    for overlap in (60, 0):
        row, _ = token_with("tokens.manage", name=f"t{overlap}")
        digest = row.digest

        def rotate(number: int, pk: int = row.pk, digest: str = digest, overlap: int = overlap) -> str:
            from dockmesh.core.errors import Conflict
            from tokens.principals import SYSTEM
            from tokens.services import rotate_token

            try:
                rotate_token(principal=SYSTEM, token_id=pk, overlap_seconds=overlap, seen_digest=digest)
            except Conflict:
                return "conflict"
            finally:
                connection.close()
            return "rotated"

        with ThreadPoolExecutor(4) as pool:
            results = sorted(pool.map(rotate, range(4)))
        assert results == ["conflict", "conflict", "conflict", "rotated"]
    assert admin("GET", "tokens").status_code == 200


def test_the_openapi_schema_has_no_warnings() -> None:
    from django.core.management import call_command

    call_command("spectacular", validate=True, fail_on_warn=True, file="/dev/null")
