"""What every page does, whichever room declares it: who is let in, methods, forms, confirmations, buttons."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.test import Client, override_settings
from django.urls import path

from dockmesh import urls
from dockmesh.audit.models import AuditEntry
from dockmesh.core.errors import Conflict, NotFound
from dockmesh.core.pages import Action, ConfirmPage, DetailPage, ListPage
from dockmesh.core.tables import Column, words
from tests.tokens.support import user_with
from tokens.models import Role, User

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Undeclared(DetailPage):
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return HttpResponse("secret")


class Declared(Undeclared):
    required_permission = "fleet.read"


def refuse(*, actor: object, role_id: int) -> None:
    raise Conflict("Somebody has it.")


def forget(*, actor: object, role_id: int) -> None:
    raise NotFound("There is no such role.")


class RemoveRole(ConfirmPage):
    required_permission = "fleet.read"
    queryset = Role.objects.all()
    kind = "role"
    route = "tokens:role"
    parents = (("Roles", "tokens:roles"),)
    title = "Remove role"
    consequences = ("{object.name} is gone then.",)
    service = refuse
    next_route = "tokens:roles"


class RoleList(ListPage):
    required_permission = "fleet.read"
    template = part = "tokens/role_list.html"
    title = "Some roles"
    lead = "Those there are."
    search_hint = "Search some roles"
    queryset = Role.objects.all()
    columns = (Column("name", "Name", ("name",)),)
    default_sort = "name"
    filters = (
        words("description", "Said", ["something", "nothing"], lambda word: Q(description=word)),
        words("name", "Name", {"admin": "well"}),
    )
    search = ("name", "description")


class Press(Action):
    required_permission = "fleet.read"
    service = refuse
    next_route = "fleet:hosts"

    def subject(self) -> Mapping[str, Any]:
        return {"role_id": 0}


class PressGone(Press):
    service = forget


class PressWell(Press):
    def act(self) -> HttpResponseBase:
        return redirect("fleet:containers")


urlpatterns = [
    path("undeclared/", Undeclared.as_view()),
    path("declared/", Declared.as_view()),
    path("role/<int:pk>/", RemoveRole.as_view()),
    path("roles/", RoleList.as_view()),
    path("press/", Press.as_view()),
    path("press-gone/", PressGone.as_view()),
    path("press-well/", PressWell.as_view()),
    *urls.urlpatterns,
]
handler403, handler404 = urls.handler403, urls.handler404


@pytest.fixture
def viewer() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read"))
    return client


def test_a_page_that_declares_no_permission_opens_to_nobody(viewer: Client) -> None:
    assert Client().get("/undeclared/").status_code == 302
    assert viewer.get("/undeclared/").status_code == 403
    boss = Client()
    boss.force_login(User.objects.create(username="boss", is_superuser=True))
    assert boss.get("/undeclared/").status_code == 403
    refusals = AuditEntry.objects.filter(action="permission.refused")
    assert {entry.target_name for entry in refusals} == {"no permission is declared"}


def test_who_is_not_signed_in_is_led_there_and_back() -> None:
    assert Client().get("/declared/?a=b")["Location"] == "/sign-in/?next=/declared/%3Fa%3Db"


def test_who_lacks_the_permission_is_refused_and_that_is_kept() -> None:
    client = Client()
    client.force_login(user_with("metrics.read"))
    assert client.get("/declared/").status_code == 403
    assert AuditEntry.objects.get(action="permission.refused").target_name == "fleet.read"


def test_a_page_has_the_methods_that_it_answers_and_no_others(viewer: Client) -> None:
    assert viewer.get("/declared/").content == b"secret"
    assert viewer.head("/declared/").status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert viewer.generic(method, "/declared/").status_code == 405, method
        assert Client().generic(method, "/declared/").status_code == 405, method
    assert viewer.get("/press/").status_code == 405


def listed(client: Client, query: str = "") -> list[str]:
    """The names of the roles in the list."""
    page = client.get(f"/roles/{query}").content.decode()
    return re.findall(r'<a class="break" href="/settings/roles/\d+/">([^<]+)</a>', page)


def test_a_list_is_searched_filtered_and_sorted_by_its_address(viewer: Client) -> None:
    Role.objects.all().exclude(name__in=["admin", "viewer"]).exclude(users__isnull=False).delete()
    Role.objects.create(name="night", description="something", permissions=[])
    everybody = ["admin", "night", "role of ann", "viewer"]
    assert listed(viewer) == everybody
    assert listed(viewer, "?sort=-name") == everybody[::-1]
    assert listed(viewer, "?q=SOMEth") == ["night"]
    assert listed(viewer, "?description=something") == ["night"]
    assert listed(viewer, "?description=nothing") == []
    assert listed(viewer, "?name=admin") == ["admin"]
    assert listed(viewer, "?name=unheard-of&page=9") == everybody


def test_the_part_that_refreshes_itself_is_the_same_rows_and_nothing_else(viewer: Client) -> None:
    page = viewer.get("/roles/?q=ann")
    text = page.content.decode()
    assert "X-Dockmesh-Part" not in page
    assert "<h1>Some roles</h1>" in text
    assert 'placeholder="Search some roles"' in text
    assert 'hx-get="?q=ann&amp;part=live"' in text
    part = viewer.get("/roles/?q=ann&part=live")
    assert part["X-Dockmesh-Part"] == "live"
    assert part.content.decode().strip() in text
    assert "<h1" not in part.content.decode()
    assert "role of ann" in part.content.decode()
    assert Client().get("/roles/?part=live").status_code == 302


def test_a_confirmation_names_what_it_acts_on(viewer: Client) -> None:
    role = Role.objects.create(name="night <shift>", permissions=[])
    page = viewer.get(f"/role/{role.pk}/").content.decode()
    assert "night &lt;shift&gt; is gone then." in page
    assert "(optional)" not in page
    assert 'aria-label="Breadcrumb"' in page
    assert viewer.get("/role/999999/").status_code == 404
    assert viewer.post("/role/999999/", {"name": "x"}).status_code == 404


def test_an_invalid_form_is_400_and_a_refusal_has_its_own_status(viewer: Client) -> None:
    role = Role.objects.create(name="night shift", permissions=[])
    address = f"/role/{role.pk}/"
    for posted in ({"name": "night"}, {}):
        wrong = viewer.post(address, posted)
        assert wrong.status_code == 400
        assert "This is not the name" in wrong.content.decode()
    refused = viewer.post(address, {"name": "night shift"})
    assert refused.status_code == 409
    assert "Somebody has it." in refused.content.decode()
    assert 'value="night shift"' in refused.content.decode()


def test_what_a_button_could_not_do_is_told_on_the_next_page(viewer: Client) -> None:
    answer = viewer.post("/press/", follow=True)
    assert answer.redirect_chain == [("/hosts/", 302)]
    assert "Somebody has it." in answer.content.decode()
    assert viewer.post("/press-gone/").status_code == 404
    assert viewer.post("/press-well/")["Location"] == "/containers/"


@override_settings(PAGE_AUTHORISATION="dockmesh.core.nowhere.authorise")
def test_without_somebody_to_ask_nobody_is_let_in(viewer: Client) -> None:
    with pytest.raises(ModuleNotFoundError):
        viewer.get("/declared/")
