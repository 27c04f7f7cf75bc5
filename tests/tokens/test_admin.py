"""Tokens, roles and users in Django admin."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from dockmesh.audit.models import AuditEntry
from tests.tokens.support import role_with, token_with, user_with
from tokens import bearer
from tokens.models import ApiToken, Role, User
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

TOKEN = re.compile(r"dmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{40}_[0-9A-Za-z]{6}")


def signed_in(*permissions: str, name: str = "ann", is_staff: bool = True) -> Client:
    client = Client()
    client.force_login(user_with(*permissions, name=name, is_staff=is_staff))
    return client


@pytest.fixture
def admin() -> Client:
    """Staff with every permission."""
    return signed_in(*Permission)


def actions() -> list[str]:
    rows = AuditEntry.objects.exclude(action="permission.refused")
    return list(rows.order_by("sequence").values_list("action", flat=True))


def test_a_token_made_in_admin_is_shown_once_and_audited(admin: Client) -> None:
    role = role_with("metrics.read")
    answer = admin.post("/admin/tokens/apitoken/add/", {"name": "prom", "role": role.pk, "lifetime": "30"})
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    text = TOKEN.findall(answer.content.decode())[0]
    assert bearer.authenticate(f"Bearer {text}", address="127.0.0.1").permissions == {"metrics.read"}
    assert actions() == ["token.created"]
    token = ApiToken.objects.get()
    for path in ("", f"{token.pk}/change/", f"{token.pk}/delete/"):
        page = admin.get(f"/admin/tokens/apitoken/{path}").content.decode()
        assert "prom" in page
        assert text.split("_")[2] not in page
        assert token.digest not in page
    assert not LogEntry.objects.filter(change_message__contains=text).exists()


def test_changes_and_deletions_go_through_the_services(admin: Client) -> None:
    token, _ = token_with("metrics.read")
    path = f"/admin/tokens/apitoken/{token.pk}"
    fields = {"name": "renamed", "role": token.role_id, "is_enabled": "on", "allowed_cidrs": "nonsense"}
    answer = admin.post(f"{path}/change/", fields)
    assert answer.status_code == 400
    assert "network like" in answer.content.decode()
    assert admin.post(f"{path}/change/", {**fields, "allowed_cidrs": "10.0.0.0/8"}).status_code == 302
    token.refresh_from_db()
    assert (token.name, token.allowed_cidrs) == ("renamed", ["10.0.0.0/8"])
    selected = {"action": "revoke_selected", "_selected_action": [token.pk]}
    assert admin.post("/admin/tokens/apitoken/", selected).status_code == 302
    assert admin.post(f"{path}/delete/", {"post": "yes"}).status_code == 302
    assert not ApiToken.objects.exists()
    assert actions() == ["token.changed", "token.revoked", "token.deleted"]


def test_many_are_deleted_one_by_one_with_their_audit_entries(admin: Client) -> None:
    tokens = [token_with(name=f"t{number}")[0].pk for number in range(3)]
    fields = {"action": "delete_selected", "_selected_action": tokens, "post": "yes"}
    asked = admin.post("/admin/tokens/apitoken/", {**fields, "post": ""})
    assert "Are you sure" in asked.content.decode()
    assert actions() == []
    page = admin.post("/admin/tokens/apitoken/", fields, follow=True)
    assert "Deleted 3 API tokens." in page.content.decode()
    assert actions() == ["token.deleted"] * 3


def test_built_in_roles_can_only_be_looked_at(admin: Client) -> None:
    role = Role.objects.get(name="viewer")
    path = f"/admin/tokens/role/{role.pk}"
    assert "can't be changed" in admin.get(f"{path}/change/").content.decode().replace("&#x27;", "'")
    fields = {"name": "x", "permissions": ["fleet.read"]}
    assert admin.post(f"{path}/change/", fields).status_code == 403
    assert admin.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [role.pk], "post": "yes"}
    admin.post("/admin/tokens/role/", bulk)
    role.refresh_from_db()
    assert role.name == "viewer"
    assert actions() == []


def test_custom_roles_are_made_changed_and_deleted(admin: Client) -> None:
    fields = {"name": "scraper", "permissions": ["metrics.read"]}
    assert admin.post("/admin/tokens/role/add/", fields).status_code == 302
    role = Role.objects.get(name="scraper")
    assert admin.post(f"/admin/tokens/role/{role.pk}/change/", {**fields, "name": "s"}).status_code == 302
    assert admin.post("/admin/tokens/role/add/", {**fields, "name": "s"}).status_code == 409
    token, _ = token_with()
    ApiToken.objects.filter(pk=token.pk).update(role=role)
    admin.post(f"/admin/tokens/role/{role.pk}/delete/", {"post": "yes"})
    assert Role.objects.filter(pk=role.pk).exists()
    ApiToken.objects.all().delete()
    admin.post(f"/admin/tokens/role/{role.pk}/delete/", {"post": "yes"})
    assert not Role.objects.filter(pk=role.pk).exists()
    assert actions() == ["role.created", "role.changed", "role.deleted"]


def test_the_ceiling_holds_in_admin_too() -> None:
    client = signed_in("tokens.manage", "roles.manage", "users.manage", "metrics.read")
    admin_role = Role.objects.get(name="admin")
    above = role_with("audit.read", name="above")
    token, _ = token_with("audit.read")
    for path, fields in (
        ("apitoken/add/", {"name": "a", "role": admin_role.pk}),
        ("apitoken/add/", {"name": "a", "role": "new", "permissions": ["audit.read"]}),
        ("role/add/", {"name": "big", "permissions": ["audit.read"]}),
        (f"role/{above.pk}/change/", {"name": "mine", "permissions": ["metrics.read"]}),
        (f"apitoken/{token.pk}/change/", {"name": "mine", "role": token.role_id}),
        ("user/add/", {"username": "eve", "password": "correct horse battery", "role": admin_role.pk}),
    ):
        assert client.post(f"/admin/tokens/{path}", fields).status_code in (400, 403), path
    client.post(f"/admin/tokens/apitoken/{token.pk}/delete/", {"post": "yes"})
    many = {"action": "delete_selected", "_selected_action": [token.pk], "post": "yes"}
    page = client.post("/admin/tokens/apitoken/", many, follow=True).content.decode()
    assert "don&#x27;t hold" in page
    assert "Deleted" not in page
    assert not LogEntry.objects.exists()
    client.post(f"/admin/tokens/role/{above.pk}/delete/", {"post": "yes"})
    assert ApiToken.objects.filter(pk=token.pk).exists()
    assert Role.objects.filter(pk=above.pk).exists()
    assert not ApiToken.objects.filter(name__in=["a", "mine"]).exists()
    assert not Role.objects.filter(name__in=["big", "mine"]).exists()
    assert not User.objects.filter(username="eve").exists()
    assert not actions()
    assert (
        client.post(
            "/admin/tokens/apitoken/", {"action": "revoke_selected", "_selected_action": [token.pk]}
        ).status_code
        == 302
    )
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_users_are_made_and_disabled_and_never_deleted(admin: Client) -> None:
    root = User.objects.create(username="root", is_superuser=True, role=Role.objects.get(name="admin"))
    viewer = Role.objects.get(name="viewer")
    fields = {"username": "eve", "password": "correct horse battery", "role": viewer.pk}
    assert admin.post("/admin/tokens/user/add/", fields).status_code == 302
    eve = User.objects.get(username="eve")
    assert "correct horse" not in admin.get(f"/admin/tokens/user/{eve.pk}/change/").content.decode()
    other = role_with("fleet.read", name="other")
    assert admin.post(f"/admin/tokens/user/{eve.pk}/change/", {"role": other.pk}).status_code == 302
    disable = {"action": "disable_selected", "_selected_action": [eve.pk, root.pk]}
    assert admin.post("/admin/tokens/user/", disable).status_code == 302
    eve.refresh_from_db()
    root.refresh_from_db()
    assert (eve.is_active, root.is_active) == (False, True)
    assert admin.post(f"/admin/tokens/user/{eve.pk}/delete/", {"post": "yes"}).status_code == 403
    assert actions() == ["user.created", "user.changed", "user.disabled"]


@pytest.mark.parametrize(
    ("model", "needed"), [("apitoken", "tokens.manage"), ("role", "roles.manage"), ("user", "users.manage")]
)
def test_each_list_needs_its_permission_and_staff(model: str, needed: str) -> None:
    others = signed_in(*(set(Permission) - {Permission(needed)}))
    row = {
        "apitoken": lambda: token_with()[0].pk,
        "role": lambda: role_with().pk,
        "user": lambda: User.objects.get().pk,
    }[model]()
    for path in ("", "add/", f"{row}/change/", f"{row}/delete/"):
        assert others.get(f"/admin/tokens/{model}/{path}").status_code == 403
        assert others.post(f"/admin/tokens/{model}/{path}", {}).status_code == 403
    no_staff = signed_in(*Permission, name="bob", is_staff=False)
    assert no_staff.get(f"/admin/tokens/{model}/").status_code in (302, 403)
    assert Client().get(f"/admin/tokens/{model}/").status_code == 302


def test_pages_of_what_is_not_there_are_404(admin: Client) -> None:
    for model in ("apitoken", "role", "user"):
        assert admin.get(f"/admin/tokens/{model}/999999/change/").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "tokens/apitoken/?digest__startswith=a",
        "tokens/apitoken/?previous_digest__regex=.",
        "tokens/apitoken/?role__users__password__startswith=p",
        "tokens/user/?password__startswith=p",
        "fleet/host/?agent_digest__startswith=a",
        "fleet/enrollmenttoken/?digest__startswith=a",
        "fleet/agentcommand/?payload__icontains=a",
        "deploys/stackfiles/?encrypted_env_file__startswith=a",
        "alerts/channel/?encrypted_url__startswith=a",
        "backups/backupjob/?host__agent_digest__startswith=a",
    ],
)
def test_no_list_can_be_asked_for_what_it_does_not_show(path: str) -> None:
    client = Client()
    client.force_login(User.objects.create(username="root", is_superuser=True, is_staff=True))
    assert client.get(f"/admin/{path}").status_code == 400
    assert client.get(f"/admin/{path.partition('?')[0]}").status_code == 200


def test_the_lists_own_filters_work(admin: Client) -> None:
    token, _ = token_with("metrics.read")
    for query in (f"role__id__exact={token.role_id}", "is_enabled__exact=1"):
        answer = admin.get(f"/admin/tokens/apitoken/?{query}")
        assert answer.status_code == 200
        assert "tok" in answer.content.decode()
