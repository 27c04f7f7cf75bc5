"""The pages of stacks and deploys, as a browser without JavaScript sees them."""

import html
import re
from typing import Any

import pytest
from django.test import Client

from dockmesh.deploys import services
from dockmesh.deploys.models import Deploy, StackFiles
from dockmesh.fleet.models import HeartbeatState, Host, Stack, StackSeries
from tests.deploys.conftest import ANN, COMPOSE
from tests.deploys.support import fetch, progress, report
from tests.tokens.support import user_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read", "stacks.deploy", name="ann"))
    return client


@pytest.fixture
def viewer() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read", name="vic"))
    return client


def text(answer: Any, status: int = 200) -> str:
    """What a reader sees."""
    assert answer.status_code == status, (answer.status_code, answer.content[:300])
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def make(host: Host, name: str = "shop", env_file: str = "KEY=hunter2") -> Stack:
    return services.create_stack(
        actor=ANN, host_id=host.pk, name=name, compose_file=COMPOSE, env_file=env_file
    )


FORM = {"name": "shop", "compose_file": COMPOSE, "env_file": "KEY=hunter2", "timeout_seconds": "900"}


def test_the_empty_pages_say_what_belongs_there(db: None, operator: Client) -> None:
    assert "Add a host first" in text(operator.get("/stacks/"))
    assert "Add one first" in text(operator.get("/stacks/new/"))
    assert "No deploys yet" in text(operator.get("/deploys/"))


def test_a_stack_is_made_and_deployed_from_the_page(host: Host, operator: Client) -> None:
    assert "New stack" in text(operator.get("/stacks/"))
    answer = operator.post("/stacks/new/", {**FORM, "host": host.pk, "is_deployed": "on"})
    deploy = Deploy.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/deploys/{deploy.pk}/")
    assert deploy.requested_by == "ann"
    page = operator.get(answer["Location"])
    assert "Waits for the agent of alpha" in text(page)
    assert 'hx-get="?part=live"' in page.content.decode()

    [command] = fetch(host)
    progress(host, command["id"], "<b>pulling</b>\n")
    part = operator.get(f"/deploys/{deploy.pk}/?part=live")
    assert part["X-Dockmesh-Part"] == "live"
    assert "&lt;b&gt;pulling&lt;/b&gt;" in part.content.decode()
    assert "Time so far" in text(part)
    report(host, command["id"], seconds=12.5, output="pulled\n")
    page = operator.get(f"/deploys/{deploy.pk}/")
    assert 'title="12.5 s"' in page.content.decode()
    assert 'hx-get="?part=live"' not in page.content.decode()
    assert "nginx:1.27" in text(page)
    assert "Roll back to this" in text(page)
    assert "KEY" in text(page)
    assert "hunter2" not in page.content.decode()


def test_what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(
    host: Host, operator: Client
) -> None:
    typed = {**FORM, "host": host.pk, "compose_file": "services:\n  web: {tty: 1, tty: 2}\n"}
    page = operator.post("/stacks/new/", typed)
    assert "Is not valid YAML: the key 'tty' is given twice in line 2" in text(page, 400)
    assert "web: {tty: 1, tty: 2}" in text(page, 400)
    assert not Stack.objects.exists()
    page = operator.post("/stacks/new/", {**FORM, "host": "999"})
    assert "Select a valid choice" in text(page, 400)


def test_the_stacks_page_lists_filters_and_sorts(host: Host, operator: Client) -> None:
    make(host, "shop")
    make(host, "blog")
    assert "blog alpha" in text(operator.get("/stacks/"))
    assert "shop alpha" not in text(operator.get("/stacks/?q=blo"))
    assert "Nothing matches" in text(operator.get("/stacks/?state=error"))
    assert "shop alpha" in text(operator.get("/stacks/?state=stopped&kind=managed&sort=-host"))


def test_a_stack_page_shows_and_does(host: Host, operator: Client) -> None:
    stack = make(host)
    page = operator.get(f"/stacks/{stack.pk}/")
    for word in ("Deploy", "Restart", "Stop", "Change", "Remove", "nginx:1.27", "Never deployed", "KEY"):
        assert word in text(page)
    assert "hunter2" not in page.content.decode()
    assert operator.post(f"/stacks/{stack.pk}/operate/", {"operation": "down"}).status_code == 404
    answer = operator.post(f"/stacks/{stack.pk}/operate/", {"operation": "up"})
    assert answer["Location"] == f"/deploys/{Deploy.objects.get().pk}/"
    answer = operator.post(f"/stacks/{stack.pk}/operate/", {"operation": "restart"}, follow=True)
    assert "has not ended yet" in text(answer)
    part = operator.get(f"/stacks/{stack.pk}/?part=live")
    assert part["X-Dockmesh-Part"] == "live"
    assert "Deploying" in text(part)


def test_files_are_changed_and_the_env_file_is_kept_unless_replaced(host: Host, operator: Client) -> None:
    stack = make(host)
    path = f"/stacks/{stack.pk}/change/"
    page = operator.get(path)
    assert "hunter2" not in page.content.decode()
    assert "Stored now, and not shown: KEY" in text(page)
    encrypted = StackFiles.objects.get().encrypted_env_file
    new = {"compose_file": COMPOSE + "# more\n", "env_file": "", "timeout_seconds": "60"}
    assert operator.post(path, new).status_code == 302
    files = StackFiles.objects.get()
    assert (files.encrypted_env_file, files.timeout_seconds) == (encrypted, 60)
    assert files.compose_file.endswith("# more\n")
    assert operator.post(path, {**new, "removes_env_file": "on"}).status_code == 302
    assert StackFiles.objects.get().encrypted_env_file == ""
    assert "Must be a mapping at the top" in text(operator.post(path, {**new, "compose_file": "web"}), 400)


def test_a_new_stack_that_its_host_refuses_stays_stored_and_says_so(host: Host, operator: Client) -> None:
    Host.objects.update(agent_info={"capabilities": [], "is_monitor_only": True})
    answer = operator.post("/stacks/new/", {**FORM, "host": host.pk, "is_deployed": "on"}, follow=True)
    assert answer.redirect_chain == [(f"/stacks/{Stack.objects.get().pk}/", 302)]
    assert "The stack shop is stored, not deployed:" in text(answer)
    assert not Deploy.objects.exists()


def test_stored_files_are_checked_with_the_hosts_compose(host: Host, operator: Client) -> None:
    stack = make(host)
    assert "Check with Compose" in text(operator.get(f"/stacks/{stack.pk}/"))
    assert "Save files and check with Compose" in text(operator.get(f"/stacks/{stack.pk}/change/"))
    broken = {
        "compose_file": "services:\n  web: {}\n",
        "env_file": "",
        "timeout_seconds": "60",
        "check": "yes",
    }
    answer = operator.post(f"/stacks/{stack.pk}/change/", broken)
    check = Deploy.objects.get()
    assert (answer["Location"], check.operation) == (f"/deploys/{check.pk}/", "validate")
    [command] = fetch(host)
    assert command["payload"]["operation"] == "validate"
    assert (command["payload"]["compose_file"], command["payload"]["env_file"]) == (
        "services:\n  web: {}\n",
        "KEY=hunter2",
    )
    assert not Stack.objects.get().is_deploying
    said = 'service "web" has neither an image nor a build context specified: invalid compose project'
    report(host, command["id"], result="failure", output=said)
    assert said in text(operator.get(answer["Location"]))
    assert "Change the files" in text(operator.get(answer["Location"]))
    # Beside the field, as long as the files are the ones that it was said of.
    form = html.unescape(operator.get(f"/stacks/{stack.pk}/change/").content.decode())
    assert form.index('name="compose_file"') < form.index(said) < form.index('name="env_file"')
    # Nothing has happened to the stack.
    assert not Stack.objects.get().has_failed_deploy
    assert StackSeries.objects.get().failure_sum == 0.0
    # While it can't be asked, files are stored all the same.
    Host.objects.update(agent_info={"capabilities": [], "compose_version": "1.29.2"})
    answer = operator.post(f"/stacks/{stack.pk}/change/", {**broken, "compose_file": COMPOSE + "# new\n"})
    assert answer["Location"] == f"/stacks/{stack.pk}/"
    assert "Compose was not asked about them" in text(operator.get(answer["Location"]))
    assert said not in text(operator.get(f"/stacks/{stack.pk}/change/"))
    assert StackFiles.objects.get().compose_file.endswith("# new\n")


def test_a_new_stack_is_stored_and_checked_with_the_hosts_compose(host: Host, operator: Client) -> None:
    values = {
        "host": host.pk,
        "name": "shop",
        "compose_file": COMPOSE,
        "timeout_seconds": "60",
        "check": "yes",
    }
    answer = operator.post("/stacks/new/", values)
    check = Deploy.objects.get()
    assert (answer["Location"], check.operation) == (f"/deploys/{check.pk}/", "validate")
    assert Stack.objects.get().is_managed


@pytest.mark.parametrize(("page", "operation"), [("stop", "stop"), ("remove", "down")])
def test_what_is_dangerous_asks_for_the_name(host: Host, operator: Client, page: str, operation: str) -> None:
    stack = make(host)
    path = f"/stacks/{stack.pk}/{page}/"
    assert "Type the name" in text(operator.get(path))
    assert "This is not the name" in text(operator.post(path, {"name": "blog", "how": "down"}), 400)
    assert not Deploy.objects.exists()
    assert operator.post(path, {"name": "shop", "how": "down"}).status_code == 302
    assert Deploy.objects.get().operation == operation


def test_a_stack_is_forgotten_from_the_page(host: Host, operator: Client) -> None:
    stack = make(host)
    answer = operator.post(f"/stacks/{stack.pk}/remove/", {"name": "shop", "how": "forget"})
    assert answer["Location"] == "/stacks/"
    assert not Stack.objects.exists()


def test_a_roll_back_asks_for_the_name(host: Host, operator: Client) -> None:
    stack = make(host)
    first = services.request_deploy(actor=ANN, stack_id=stack.pk)
    report(host, fetch(host)[0]["id"])
    path = f"/deploys/{first.pk}/rollback/"
    assert "This is not the name" in text(operator.post(path, {"name": ""}), 400)
    assert operator.post(path, {"name": "shop"}).status_code == 302
    assert Deploy.objects.first().rollback_of_id == first.pk  # type: ignore[union-attr]
    assert "has not ended yet" in text(operator.post(path, {"name": "shop"}), 409)


def test_a_discovered_stack_is_adopted(host: Host, operator: Client) -> None:
    stack = Stack.objects.create(host=host, name="found", state="running", state_changed_at=host.enrolled_at)
    assert "Adopt" in text(operator.get(f"/stacks/{stack.pk}/"))
    answer = operator.get(f"/stacks/{stack.pk}/change/")
    assert answer["Location"] == f"/stacks/{stack.pk}/adopt/"
    form = {"compose_file": COMPOSE, "env_file": "", "timeout_seconds": "60"}
    assert operator.post(f"/stacks/{stack.pk}/adopt/", form).status_code == 302
    assert Stack.objects.get().is_managed


def test_a_viewer_looks_and_touches_nothing(host: Host, viewer: Client) -> None:
    stack = make(host)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    for path in ("/stacks/", f"/stacks/{stack.pk}/", "/deploys/", f"/deploys/{deploy.pk}/"):
        page = viewer.get(path)
        assert page.status_code == 200
        assert "New stack" not in text(page)
        assert "/remove/" not in page.content.decode()
    for path in (
        "/stacks/new/",
        *(f"/stacks/{stack.pk}/{verb}/" for verb in ("change", "adopt", "operate", "stop", "remove")),
        f"/deploys/{deploy.pk}/rollback/",
    ):
        assert viewer.post(path, {"operation": "up", "name": "shop"}).status_code == 403, path
    assert Deploy.objects.count() == 1


def test_without_a_sign_in_the_pages_lead_there(db: None) -> None:
    for path in ("/stacks/", "/stacks/new/", "/stacks/1/", "/deploys/", "/deploys/1/"):
        assert Client().get(path)["Location"].startswith("/sign-in/")


def test_what_is_not_there_is_404(db: None, operator: Client) -> None:
    for path in (
        "/stacks/1/",
        "/stacks/1/change/",
        "/stacks/1/remove/",
        "/deploys/1/",
        "/deploys/1/rollback/",
    ):
        assert operator.get(path).status_code == 404
    assert operator.get("/deploys/?status=wrong&sort=nonsense&page=99").status_code == 200


@pytest.mark.parametrize("path", ["/stacks/", "/deploys/"])
def test_a_list_takes_the_same_queries_however_long_it_is(
    host: Host, operator: Client, path: str, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        services.request_deploy(actor=ANN, stack_id=make(host, f"s{number}").pk)
    operator.get(path)
    with django_assert_max_num_queries(13):
        operator.get(path)


def test_the_admin_shows_no_env_file(host: Host) -> None:
    client = Client()
    client.force_login(user_with(name="root", is_staff=True, is_superuser=True))
    stack = make(host)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    for path in (f"deploys/stackfiles/{stack.pk}/change/", f"deploys/deploy/{deploy.pk}/change/"):
        page = client.get(f"/admin/{path}")
        assert page.status_code == 200
        assert b"ealed" not in page.content
    assert client.get("/admin/deploys/deploy/add/").status_code == 403


def test_a_queued_deploy_tells_when_its_host_was_last_seen_if_ever(host: Host, viewer: Client) -> None:
    deploy = services.request_deploy(actor=ANN, stack_id=make(host).pk)
    HeartbeatState.objects.update(sequence=-1)
    assert "That host is waiting for its first heartbeat." in text(viewer.get(f"/deploys/{deploy.pk}/"))
    HeartbeatState.objects.update(sequence=0)
    assert "That host was last seen just now" in text(viewer.get(f"/deploys/{deploy.pk}/"))
