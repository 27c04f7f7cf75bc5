"""Settings → Users and the services behind it."""

from __future__ import annotations

import pytest
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core.errors import Conflict, Forbidden, InvalidInput
from tokens import services
from tokens.models import Role, User
from tokens.principals import SYSTEM, Principal, principal_of_user

PASSWORD = "correct-horse-battery"

pytestmark = pytest.mark.django_db


def role(name: str) -> Role:
    return Role.objects.get(name=name)


def user(name: str, role_name: str = "viewer", **fields: object) -> User:
    made = User(username=name, role=role(role_name), **fields)
    made.set_password(PASSWORD)
    made.save()
    return made


@pytest.fixture
def ada(client: Client) -> User:
    made = user("ada", "admin", is_superuser=True, is_staff=True)
    client.force_login(made)
    return made


@pytest.fixture
def clerk() -> Principal:
    """May manage users, but little else."""
    clerks = Role.objects.create(name="clerk", permissions=["users.manage", "fleet.read"])
    return principal_of_user(User.objects.create(username="clerk", role=clerks))


def test_an_administrator_makes_a_user_who_can_sign_in(client: Client, ada: User) -> None:
    data = {"username": "bob", "role": role("operator").pk, "password": PASSWORD}
    assert client.post("/settings/users/new/", data).status_code == 302
    bob = User.objects.get(username="bob")
    assert (bob.role, bob.is_staff, bob.is_superuser) == (role("operator"), False, False)
    assert Client().post("/sign-in/", {"username": "bob", "password": PASSWORD}).status_code == 302
    entry = AuditEntry.objects.get(action="user.created")
    assert (entry.actor_name, entry.target_name, entry.changes) == ("ada", "bob", {"role": "operator"})
    assert PASSWORD not in str(AuditEntry.objects.values_list())
    text = client.get("/settings/users/?q=bo&state=active").content.decode()
    assert "bob" in text
    assert ">ada</a>" not in text


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"username": "ADA"}, "username", "Is taken by another user."),
        ({"username": "a b"}, "username", "Enter a valid username"),
        ({"password": "short"}, "password", "too short"),
        ({"password": "bob-bob-bob-bob", "username": "bob-bob-bob-bob"}, "password", "too similar"),
        ({"role": "999999"}, "role", "Select a valid choice"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(
    client: Client, ada: User, changes: dict[str, str], field: str, message: str
) -> None:
    data = {"username": "bob", "role": role("viewer").pk, "password": PASSWORD, **changes}
    answer = client.post("/settings/users/new/", data)
    assert answer.status_code in (400, 409)
    text = answer.content.decode()
    assert message in text.split(f'id="id_{field}_error"')[1].split("</ul>")[0]
    assert User.objects.count() == 1


def test_nobody_hands_out_more_than_they_hold(clerk: Principal) -> None:
    with pytest.raises(Forbidden):
        services.create_user(principal=clerk, username="x", password=PASSWORD, role_id=role("operator").pk)
    viewer = user("viewer")
    with pytest.raises(Forbidden):
        services.change_user_role(principal=clerk, user_id=viewer.pk, role_id=role("admin").pk)
    assert not User.objects.filter(username="x").exists()
    assert AuditEntry.objects.filter(action="permission.refused").count() == 2


def test_nobody_changes_who_may_do_more_than_they(clerk: Principal) -> None:
    boss = user("boss", "admin")
    for change in (
        lambda: services.set_user_active(principal=clerk, user_id=boss.pk, is_active=False),
        lambda: services.set_password(principal=clerk, user_id=boss.pk, password=PASSWORD),
        lambda: services.change_user_role(principal=clerk, user_id=boss.pk, role_id=role("viewer").pk),
    ):
        with pytest.raises(Forbidden):
            change()
    boss.refresh_from_db()
    assert boss.is_active
    assert boss.role == role("admin")


def test_roles_above_ones_own_are_not_offered(client: Client) -> None:
    clerks = Role.objects.create(name="clerk", permissions=["users.manage", "fleet.read"])
    client.force_login(User.objects.create(username="clerk", role=clerks))
    text = client.get("/settings/users/new/").content.decode()
    assert ">viewer</option>" in text
    assert ">operator</option>" not in text


def test_the_last_administrator_stays(ada: User) -> None:
    with pytest.raises(Conflict):
        services.set_user_active(principal=SYSTEM, user_id=ada.pk, is_active=False)
    with pytest.raises(Conflict):
        services.change_user_role(principal=SYSTEM, user_id=ada.pk, role_id=role("viewer").pk)
    ada.refresh_from_db()
    assert ada.is_active
    assert ada.is_superuser
    eve = user("eve", "admin")
    services.change_user_role(principal=SYSTEM, user_id=ada.pk, role_id=role("viewer").pk)
    ada.refresh_from_db()
    assert (ada.is_superuser, ada.is_staff) == (False, False)
    with pytest.raises(Conflict):
        services.set_user_active(principal=SYSTEM, user_id=eve.pk, is_active=False)


def test_disabling_signs_the_user_out_and_enabling_lets_them_in_again(client: Client, ada: User) -> None:
    bob = user("bob")
    session = Client()
    session.post("/sign-in/", {"username": "bob", "password": PASSWORD})
    assert session.get("/").status_code == 200
    client.post(f"/settings/users/{bob.pk}/switch/", {"is_active": "false"})
    assert session.get("/").status_code == 302
    assert session.post("/sign-in/", {"username": "bob", "password": PASSWORD}).status_code == 400
    client.post(f"/settings/users/{bob.pk}/switch/", {"is_active": "true"})
    assert session.post("/sign-in/", {"username": "bob", "password": PASSWORD}).status_code == 302
    actions = list(
        AuditEntry.objects.filter(action__in=["user.disabled", "user.enabled"]).order_by("sequence")
    )
    assert [entry.action for entry in actions] == ["user.disabled", "user.enabled"]


def test_nobody_disables_themselves(client: Client, ada: User) -> None:
    user("eve", "admin")
    answer = client.post(f"/settings/users/{ada.pk}/switch/", {"is_active": "false"}, follow=True)
    assert "You can&#x27;t disable yourself." in answer.content.decode()
    assert User.objects.get(pk=ada.pk).is_active


def test_role_and_password_are_changed_on_the_users_page(client: Client, ada: User) -> None:
    bob = user("bob")
    path = f"/settings/users/{bob.pk}/"
    assert client.get(path).status_code == 200
    assert client.post(path, {"what": "role", "role": role("operator").pk}).status_code == 302
    new = "a-different-long-phrase"
    assert "too short" in client.post(path, {"what": "password", "password": "x"}).content.decode()
    assert client.post(path, {"what": "password", "password": new}).status_code == 302
    bob.refresh_from_db()
    assert bob.role == role("operator")
    assert bob.check_password(new)
    assert client.get("/settings/users/999999/").status_code == 404


def test_only_who_may_manage_users_sees_the_pages(client: Client) -> None:
    for path in ("/settings/users/", "/settings/users/new/"):
        assert client.get(path).status_code == 302
    client.force_login(user("op", "operator"))
    for path in ("/settings/users/", "/settings/users/new/", "/settings/users/1/"):
        assert client.get(path).status_code == 403
    assert client.post("/settings/users/1/switch/").status_code == 403


def test_an_unknown_role_is_refused_by_the_service() -> None:
    with pytest.raises(InvalidInput):
        services.create_user(principal=SYSTEM, username="x", password=PASSWORD, role_id=0)
