"""Settings → API tokens and Settings → Roles, as a browser without JavaScript sees them."""

import datetime
import re

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from tests.tokens.support import role_with, token_with, user_with
from tokens import bearer, secret
from tokens.models import ApiToken, Role
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

TOKEN = re.compile(r"dmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{40}_[0-9A-Za-z]{6}")


@pytest.fixture
def browser() -> Client:
    """Signed in with every permission."""
    client = Client()
    client.force_login(user_with(*Permission))
    return client


@pytest.fixture
def limited() -> Client:
    """Signed in; manages tokens and roles, and may scrape."""
    client = Client()
    client.force_login(user_with("tokens.manage", "roles.manage", "metrics.read", name="bob"))
    return client


def new_token(client: Client, **fields: object) -> tuple[int, str]:
    answer = client.post("/settings/tokens/new/", fields)
    return answer.status_code, answer.content.decode()


def test_the_way_of_the_page_word_for_word(browser: Client) -> None:
    overview = browser.get("/").content.decode()
    assert "Settings" in overview
    assert "API tokens" in overview
    tokens = browser.get("/settings/tokens/").content.decode()
    assert "New token" in tokens
    form = browser.get("/settings/tokens/new/").content.decode()
    assert "metrics.read" in form
    status, page = new_token(
        browser, name="prometheus-scraper", role="new", permissions=["metrics.read"], role_name=""
    )
    assert status == 200
    text = TOKEN.findall(page)[0]
    assert bearer.authenticate(f"Bearer {text}", address="127.0.0.1").permissions == {"metrics.read"}
    assert "credentials_file: /etc/prometheus/dockmesh.token" in page
    assert f"credentials: {text}" in page
    assert page.index("credentials_file:") < page.index("credentials: dmt_")
    assert "only time" in page


def test_the_secret_is_shown_once_and_kept_nowhere(browser: Client) -> None:
    answer = browser.post("/settings/tokens/new/", {"name": "a", "role": role_with("metrics.read").pk})
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    text = TOKEN.findall(answer.content.decode())[0]
    again = browser.post("/settings/tokens/new/", {"name": "a", "role": role_with("fleet.read").pk})
    assert again.status_code == 409
    assert text not in again.content.decode()
    assert "already" in again.content.decode()
    token = ApiToken.objects.get()
    for path in ("", f"{token.pk}/", f"{token.pk}/edit/", f"{token.pk}/rotate/", f"{token.pk}/revoke/"):
        page = browser.get(f"/settings/tokens/{path}").content.decode()
        assert text.split("_")[2] not in page
        assert token.digest not in page
    assert all(text not in str(session.get_decoded()) for session in Session.objects.all())
    assert text not in "".join(browser.cookies.output())


def test_a_custom_role_with_a_name_is_made_with_the_token_or_not_at_all(browser: Client) -> None:
    fields = {
        "name": "a",
        "role": "new",
        "permissions": ["metrics.read", "discovery.read"],
        "role_name": "scraper",
    }
    assert new_token(browser, **fields)[0] == 200
    assert Role.objects.get(name="scraper").permissions == ["metrics.read", "discovery.read"]
    status, page = new_token(browser, **{**fields, "role_name": "other"})
    assert status == 409
    assert "There is a token named" in page
    assert not Role.objects.filter(name="other").exists()
    status, page = new_token(browser, **{**fields, "name": "b"})
    assert status == 409
    assert "There is a role named" in page


def test_permissions_chosen_twice_make_one_role(browser: Client) -> None:
    for name in ("a", "b"):
        assert new_token(browser, name=name, role="new", permissions=["metrics.read"])[0] == 200
    assert Role.objects.filter(is_builtin=False, name="metrics.read").count() == 1


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"name": "a\x00b"}, "name", "Null characters"),
        ({"name": "a\u0085b"}, "name", "control characters"),
        ({"role": ""}, "role", "required"),
        ({"role": "999999"}, "role", "valid choice"),
        ({"role": "new"}, "permissions", "at least one"),
        ({"role": "new", "permissions": ["nonsense"]}, "permissions", "valid choice"),
        ({"lifetime": "date"}, "expires_at", "Say until when"),
        ({"lifetime": "date", "expires_at": "2020-01-01T00:00"}, "expires_at", "in the future"),
        ({"lifetime": "date", "expires_at": "soon"}, "expires_at", "valid date"),
        ({"lifetime": "8"}, "lifetime", "valid choice"),
        ({"allowed_cidrs": "10.0.0.0/8\nnonsense"}, "allowed_cidrs", "network like"),
        ({"allowed_cidrs": "10.0.0.1/8"}, "allowed_cidrs", "Did you mean 10.0.0.0/8"),
    ],
)
def test_errors_stand_beside_their_field_and_nothing_typed_is_lost(
    browser: Client, fields: dict[str, object], field: str, message: str
) -> None:
    given = {"name": "typed", "role": str(Role.objects.get(name="viewer").pk), **fields}
    status, page = new_token(browser, **given)
    assert status == 400
    beside = page[page.index(f'name="{field}"') :][:9000]
    assert message in beside.replace("&#x27;", "'")
    if "name" not in fields:
        assert 'value="typed"' in page
    assert not ApiToken.objects.exists()


def test_lifetimes_networks_and_dates_are_kept(browser: Client) -> None:
    viewer = str(Role.objects.get(name="viewer").pk)
    assert (
        new_token(browser, name="a", role=viewer, lifetime="90", allowed_cidrs="10.0.0.0/8, 192.0.2.1")[0]
        == 200
    )
    token = ApiToken.objects.get(name="a")
    assert token.expires_at is not None
    assert abs(token.expires_at - clock.now() - datetime.timedelta(days=90)) < datetime.timedelta(minutes=1)
    assert token.allowed_cidrs == ["10.0.0.0/8", "192.0.2.1/32"]
    assert new_token(browser, name="b", role=viewer, lifetime="date", expires_at="2099-01-01T12:00")[0] == 200
    assert ApiToken.objects.get(name="b").expires_at == datetime.datetime(2099, 1, 1, 12, tzinfo=datetime.UTC)


def test_only_what_one_holds_can_be_chosen_and_nothing_else_is_taken(limited: Client) -> None:
    page = limited.get("/settings/tokens/new/").content.decode()
    assert 'value="metrics.read"' in page
    assert 'value="audit.read"' not in page
    admin_role = Role.objects.get(name="admin")
    roles = page[page.index('name="role"') :].partition("</select>")[0]
    assert 'value="new"' in roles
    assert f'value="{admin_role.pk}"' not in roles
    assert new_token(limited, name="a", role=str(admin_role.pk))[0] == 400
    assert new_token(limited, name="a", role="new", permissions=["audit.read"])[0] == 400
    role = {"name": "big", "permissions": ["audit.read"]}
    assert limited.post("/settings/roles/new/", role).status_code == 400
    assert not ApiToken.objects.exists()
    assert not Role.objects.filter(name="big").exists()


def test_without_roles_manage_no_role_is_made_on_the_way() -> None:
    client = Client()
    client.force_login(user_with("tokens.manage", "metrics.read"))
    assert "New custom role" not in client.get("/settings/tokens/new/").content.decode()
    assert new_token(client, name="a", role="new", permissions=["metrics.read"])[0] == 400
    assert not Role.objects.filter(name="metrics.read").exists()


def test_editing_a_token_above_oneself_is_refused_and_audited(limited: Client) -> None:
    token, _ = token_with("audit.read")
    answer = limited.post(f"/settings/tokens/{token.pk}/edit/", {"name": "mine", "role": str(token.role_id)})
    assert answer.status_code == 403
    answer = limited.post(f"/settings/tokens/{token.pk}/rotate/", {"overlap_seconds": "0", "seen": "x"})
    assert answer.status_code == 409
    token.refresh_from_db()
    assert token.name == "tok"
    assert AuditEntry.objects.get().action == "permission.refused"


def test_a_token_above_oneself_can_be_revoked_and_not_deleted(limited: Client) -> None:
    token, _ = token_with("audit.read")
    path = f"/settings/tokens/{token.pk}"
    assert limited.post(f"{path}/revoke/", {"name": "tok"}).status_code == 302
    refused = limited.post(f"{path}/delete/", {"name": "tok"})
    assert refused.status_code == 403
    assert "audit.read" in refused.content.decode()
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert (
        limited.post(f"/settings/roles/{token.role_id}/delete/", {"name": token.role.name}).status_code == 403
    )


def test_editing_changes_what_was_changed_and_nothing_else(browser: Client) -> None:
    expires_at = datetime.datetime(2099, 1, 1, 12, 30, 45, 123456, tzinfo=datetime.UTC)
    token, text = token_with("fleet.read", expires_at=expires_at, allowed_cidrs=["10.0.0.0/8"])
    path = f"/settings/tokens/{token.pk}/edit/"
    page = browser.get(path).content.decode()
    assert "10.0.0.0/8" in page
    fields = {
        "name": "renamed",
        "role": str(token.role_id),
        "expires_at": "2099-01-01T12:30",
        "allowed_cidrs": "10.0.0.0/8",
        "is_enabled": "on",
    }
    assert browser.post(path, fields).status_code == 302
    token.refresh_from_db()
    assert (token.name, token.expires_at, token.is_enabled) == ("renamed", expires_at, True)
    assert AuditEntry.objects.get().changes == {"name": ["tok", "renamed"]}
    del fields["is_enabled"]
    assert browser.post(path, {**fields, "allowed_cidrs": ""}).status_code == 302
    with pytest.raises(bearer.Refused):
        bearer.authenticate(f"Bearer {text}", address="10.0.0.1")


def test_rotating_shows_the_new_secret_and_a_reload_does_not_rotate_again(browser: Client) -> None:
    token, old = token_with("metrics.read")
    path = f"/settings/tokens/{token.pk}/rotate/"
    seen = re.findall(r'name="seen" value="([^"]+)"', browser.get(path).content.decode())[0]
    answer = browser.post(path, {"overlap_seconds": "0", "seen": seen})
    assert answer.status_code == 200
    new = TOKEN.findall(answer.content.decode())[0]
    assert new != old
    assert browser.post(path, {"overlap_seconds": "0", "seen": seen}).status_code == 409
    assert bearer.authenticate(f"Bearer {new}", address="127.0.0.1").name == "tok"


def test_revoking_and_deleting_ask_for_the_name(browser: Client) -> None:
    token, text = token_with("metrics.read")
    path = f"/settings/tokens/{token.pk}"
    assert browser.post(f"{path}/revoke/", {"name": "other"}).status_code == 400
    assert browser.post(f"{path}/revoke/", {"name": "tok"}).status_code == 302
    with pytest.raises(bearer.Refused):
        bearer.authenticate(f"Bearer {text}", address="127.0.0.1")
    assert "Revoked" in browser.get(f"{path}/").content.decode()
    assert browser.post(f"{path}/delete/", {"name": "tok"}).status_code == 302
    assert browser.get(f"{path}/").status_code == 404


def test_roles_are_made_changed_and_deleted(browser: Client) -> None:
    fields = {"name": "scraper", "description": "for Prometheus", "permissions": ["metrics.read"]}
    assert browser.post("/settings/roles/new/", fields).status_code == 302
    role = Role.objects.get(name="scraper")
    path = f"/settings/roles/{role.pk}"
    assert "for Prometheus" in browser.get(f"{path}/").content.decode()
    assert browser.post(f"{path}/edit/", {**fields, "permissions": []}).status_code == 302
    role.refresh_from_db()
    assert role.permissions == []
    token, _ = token_with(name="t")
    ApiToken.objects.filter(pk=token.pk).update(role=role)
    assert browser.post(f"{path}/delete/", {"name": "scraper"}).status_code == 409
    ApiToken.objects.all().delete()
    assert browser.post(f"{path}/delete/", {"name": "scraper"}).status_code == 302
    assert browser.get(f"{path}/").status_code == 404


def test_built_in_roles_have_no_way_to_be_changed(browser: Client) -> None:
    role = Role.objects.get(name="viewer")
    path = f"/settings/roles/{role.pk}"
    assert "edit/" not in browser.get(f"{path}/").content.decode()
    assert browser.post(f"{path}/edit/", {"name": "x"}).status_code == 302
    assert browser.post(f"{path}/delete/", {"name": "viewer"}).status_code == 409
    role.refresh_from_db()
    assert (role.name, role.permissions) == ("viewer", ["fleet.read"])


def test_lists_search_filter_and_escape(browser: Client) -> None:
    token_with(name="<script>alert(1)</script>")
    token_with(name="gone", revoked_at=clock.now())
    page = browser.get("/settings/tokens/").content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    page = browser.get("/settings/tokens/?state=revoked").content.decode()
    assert "gone" in page
    assert "alert(1)" not in page
    assert "Nothing matches" in browser.get("/settings/tokens/?q=nonsense").content.decode()
    assert "Built-in" in browser.get("/settings/roles/?kind=builtin").content.decode()
    assert browser.get("/settings/roles/?sort=-tokens&q=v").status_code == 200


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("/settings/tokens/", "tokens.manage"),
        ("/settings/tokens/new/", "tokens.manage"),
        ("/settings/tokens/1/", "tokens.manage"),
        ("/settings/tokens/1/edit/", "tokens.manage"),
        ("/settings/tokens/1/rotate/", "tokens.manage"),
        ("/settings/tokens/1/revoke/", "tokens.manage"),
        ("/settings/tokens/1/delete/", "tokens.manage"),
        ("/settings/roles/", "roles.manage"),
        ("/settings/roles/new/", "roles.manage"),
        ("/settings/roles/1/", "roles.manage"),
        ("/settings/roles/1/edit/", "roles.manage"),
        ("/settings/roles/1/delete/", "roles.manage"),
    ],
)
def test_every_page_needs_a_session_with_its_permission(path: str, needed: str) -> None:
    for method in ("get", "post"):
        answer = getattr(Client(), method)(path)
        assert answer.status_code in (302, 405)
        assert answer.status_code == 405 or answer["Location"].startswith("/sign-in/?next=/settings/")
    client = Client()
    client.force_login(user_with(*(set(Permission) - {Permission(needed)})))
    assert client.get(path).status_code == 403
    _, text = token_with(*Permission)
    assert Client().get(path, headers={"authorization": f"Bearer {text}"}).status_code == 302


def test_a_form_without_the_csrf_token_is_refused(browser: Client) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with(*Permission, name="cat"))
    assert new_token(client, name="a", role=str(Role.objects.get(name="viewer").pk))[0] == 403
    assert not ApiToken.objects.exists()


def test_a_list_costs_the_same_queries_whatever_its_length(
    browser: Client, django_assert_max_num_queries: object
) -> None:
    for number in range(20):
        token_with("fleet.read", name=f"t{number}")
    with django_assert_max_num_queries(6):  # type: ignore[operator]
        browser.get("/settings/tokens/")


def test_shape_of_the_secret() -> None:
    assert TOKEN.fullmatch(str(secret.generate(secret.Kind.API)))
