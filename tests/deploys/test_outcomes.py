"""What a deploy may remove, what ran, the way back, and the end of a deploy that nobody wants any more."""

from typing import Any

import pytest
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core.errors import Conflict, InvalidInput
from dockmesh.deploys import services
from dockmesh.deploys.models import Deploy, StackFiles
from dockmesh.fleet.models import AgentCommand, Host, Stack, StackSeries
from tests.deploys.conftest import ANN, COMPOSE
from tests.deploys.support import fetch, report
from tests.deploys.test_pages import text
from tests.tokens.support import user_with

pytestmark = pytest.mark.django_db

RAN = [
    {"service": "web", "image": "nginx:1.27", "image_id": "sha256:" + "a" * 64, "digest": "nginx@sha256:1"}
]
GONE = [{"service": "db", "containers": ["shop-db-1"], "count": 1}]
ABLE = {"capabilities": ["deploy", "preview", "cancel"]}
Headers = dict[str, str]


def make(host: Host, **values: Any) -> Stack:
    return services.create_stack(actor=ANN, host_id=host.pk, name="shop", compose_file=COMPOSE, **values)


def end(deploy: Deploy, **how: Any) -> Deploy:
    """Play the agent: fetch the one command that there is, and report it."""
    assert deploy.stack is not None
    [command] = fetch(deploy.stack.host)
    report(deploy.stack.host, command["id"], **how)
    deploy.refresh_from_db()
    return deploy


def deployed(stack: Stack, **how: Any) -> Deploy:
    return end(services.request_deploy(actor=ANN, stack_id=stack.pk), **how)


def counted() -> tuple[int, int]:
    series = StackSeries.objects.get(name="shop")
    return int(series.success_counts.split(",")[-1]), int(series.failure_counts.split(",")[-1])


def audited(action: str) -> list[dict[str, Any]]:
    return list(AuditEntry.objects.filter(action=action).order_by("pk").values_list("changes", flat=True))


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read", "stacks.deploy", name="ann"))
    return client


def test_what_would_be_removed_is_confirmed_by_name(host: Host, client: Client, may_deploy: Headers) -> None:
    stack = make(host)
    failed = deployed(
        stack, result="failure", error="would remove db", services=["web"], removes=GONE, is_changed=False
    )
    answer = client.get(f"/api/v1/deploys/{failed.pk}", headers=may_deploy).json()
    assert (answer["removes"], answer["services"], answer["is_changed"]) == (GONE, ["web"], False)
    answer = client.post(
        f"/api/v1/stacks/{stack.pk}/deploy",
        {"remove": ["db"]},
        content_type="application/json",
        headers=may_deploy,
    )
    assert answer.status_code == 202
    assert answer.json()["remove"] == ["db"]
    [command] = fetch(host)
    assert command["payload"]["remove"] == ["db"]
    assert audited("deploy.requested")[-1]["remove"] == ["db"]


@pytest.mark.parametrize("value", ["db", [""], [1], {"db": 1}, None, ["x" * 201], ["x"] * 501])
def test_what_is_no_list_of_services_confirms_nothing(host: Host, value: Any) -> None:
    with pytest.raises(InvalidInput, match="remove"):
        services.request_deploy(actor=ANN, stack_id=make(host).pk, remove=value)
    assert not Deploy.objects.exists()


def test_the_page_names_what_would_go_and_asks(host: Host, operator: Client) -> None:
    stack = make(host)
    failed = deployed(stack, result="failure", error="not confirmed", removes=GONE, is_changed=False)
    page = text(operator.get(f"/deploys/{failed.pk}/"))
    assert "Would be removed db : shop-db-1" in page
    assert "No container was changed" in page
    path = f"/deploys/{failed.pk}/confirm/"
    assert "The service db goes, with shop-db-1." in text(operator.get(path))
    assert "This is not the name" in text(operator.post(path, {"name": "other"}), 400)
    answer = operator.post(path, {"name": "shop"})
    made = Deploy.objects.get(remove=["db"])
    assert answer["Location"] == f"/deploys/{made.pk}/"
    end(made, removes=GONE, is_changed=True)
    page = text(operator.get(f"/deploys/{made.pk}/"))
    assert "Would be removed" not in page
    assert "Removed db : shop-db-1" in page
    assert operator.get(f"/deploys/{made.pk}/confirm/").status_code == 302


def test_a_preview_is_no_deploy(host: Host, client: Client, operator: Client, may_deploy: Headers) -> None:
    stack = make(host)
    deployed(stack)
    services.change_stack(
        actor=ANN, stack_id=stack.pk, compose_file=COMPOSE.replace("nginx:1.27", "nginx:1.28")
    )
    answer = client.post(f"/api/v1/stacks/{stack.pk}/preview", headers=may_deploy)
    assert answer.status_code == 202
    stack.refresh_from_db()
    assert stack.is_deploying is False
    made = end(Deploy.objects.get(operation="preview"), output="DRY-RUN MODE\n", removes=GONE)
    answer = client.get(f"/api/v1/deploys/{made.pk}", headers=may_deploy).json()
    assert (answer["status"], answer["removes"]) == ("success", GONE)
    assert "-    image: nginx:1.27" in answer["diff"]
    assert "+    image: nginx:1.28" in answer["diff"]
    assert counted() == (1, 0)
    last = client.get(f"/api/v1/stacks/{stack.pk}", headers=may_deploy).json()["last_deploy"]
    assert last["operation"] == "up"
    page = text(operator.get(f"/deploys/{made.pk}/"))
    assert "+ image: nginx:1.28" in page
    assert "Deploy and remove" in page
    answer = operator.post(f"/stacks/{stack.pk}/preview/")
    assert answer["Location"] == f"/deploys/{Deploy.objects.latest('pk').pk}/"


@pytest.mark.parametrize("look", ["preview", "validate"])
def test_what_only_looks_blocks_no_deploy_and_is_blocked_by_none(host: Host, look: str) -> None:
    stack = make(host)
    first = services.request_deploy(actor=ANN, stack_id=stack.pk, operation=look)
    with pytest.raises(Conflict, match=f"Deploy {first.pk} .* has not ended yet"):
        services.request_deploy(actor=ANN, stack_id=stack.pk, operation="validate")
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    end(first)
    services.request_deploy(actor=ANN, stack_id=stack.pk, operation=look)
    with pytest.raises(Conflict, match=f"Deploy {deploy.pk} .* has not ended yet"):
        services.request_deploy(actor=ANN, stack_id=stack.pk, operation="stop")


def test_a_failed_preview_is_no_failed_deploy(host: Host) -> None:
    stack = make(host)
    end(services.request_preview(actor=ANN, stack_id=stack.pk), result="failure")
    stack.refresh_from_db()
    assert (stack.state, stack.has_failed_deploy, counted()) == ("stopped", False, (0, 0))


def test_a_roll_back_asks_for_the_images_that_ran(host: Host, client: Client, may_deploy: Headers) -> None:
    stack = make(host)
    good = deployed(stack, images=RAN)
    answer = client.get(f"/api/v1/deploys/{good.pk}", headers=may_deploy).json()
    assert answer["images"] == RAN
    deployed(stack, images=[])
    answer = client.post(f"/api/v1/deploys/{good.pk}/rollback", headers=may_deploy)
    assert answer.status_code == 202
    [command] = fetch(host)
    assert command["payload"]["images"] == RAN
    assert "nginx@sha256:1" in text(client_page(good))


def client_page(deploy: Deploy) -> Any:
    client = Client()
    client.force_login(user_with("fleet.read", name="vic"))
    return client.get(f"/deploys/{deploy.pk}/")


@pytest.mark.parametrize(
    "more",
    [
        {"images": "x", "services": {"a": 1}, "removes": 5, "is_changed": "yes"},
        {"images": [{"service": "web"}], "services": [1], "removes": [{"service": "db"}]},
        {"removes": [{"service": "db", "containers": ["a"], "count": 2}], "images": [[]]},
    ],
)
def test_an_outcome_of_another_shape_counts_as_not_said(host: Host, more: Any) -> None:
    ended = deployed(make(host), **more)
    assert ended.status == "success"
    assert (ended.images, ended.services, ended.removes, ended.is_changed) == ([], [], [], None)


def test_a_failed_deploy_is_rolled_back_once(host: Host) -> None:
    stack = make(host, auto_rollback=True)
    good = deployed(stack, images=RAN, services=["web"])
    services.change_stack(actor=ANN, stack_id=stack.pk, compose_file=COMPOSE + "  new: {image: x}\n")
    failed = deployed(
        stack, result="failure", error="new exited with 1", services=["new", "web"], is_changed=True
    )
    made = Deploy.objects.latest("pk")
    assert (made.is_automatic, made.rollback_of_id, made.title) == (True, good.pk, "automatic roll-back")
    assert failed.error == (
        f"new exited with 1. Rolled back automatically to deploy {good.pk}, by deploy {made.pk}."
    )
    assert f"dockmesh: Rolled back automatically to deploy {good.pk}" in failed.output
    assert audited("deploy.requested")[-1]["is_automatic"] is True
    [command] = fetch(host)
    payload = command["payload"]
    assert (payload["compose_file"], payload["images"], payload["remove"]) == (COMPOSE, RAN, ["new", "web"])
    report(host, command["id"], result="failure", is_changed=True)
    # It never goes on from there.
    assert fetch(host) == []
    assert Deploy.objects.count() == 3
    # What was saved stays, to be mended.
    assert "new" in StackFiles.objects.get(stack=stack).compose_file


@pytest.mark.parametrize(
    ("auto_rollback", "is_good", "is_changed"),
    [(False, True, True), (True, False, True), (True, True, False)],
)
def test_no_roll_back_where_none_is_wanted_possible_or_needed(
    host: Host, auto_rollback: bool, is_good: bool, is_changed: bool
) -> None:
    stack = make(host, auto_rollback=auto_rollback)
    deployed(stack, result="success" if is_good else "failure", is_changed=True)
    failed = deployed(stack, result="failure", is_changed=is_changed)
    assert fetch(host) == []
    assert "olled back" not in failed.error + failed.output


def test_a_roll_back_that_is_not_possible_is_said(host: Host) -> None:
    stack = make(host, auto_rollback=True)
    deployed(stack)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    Host.objects.update(agent_info={"capabilities": [], "compose_version": ""})
    failed = end(deploy, result="failure", is_changed=True)
    assert failed.status == "failure"
    assert "could not be rolled back automatically: alpha has no Docker Compose" in failed.error


def test_whether_it_rolls_back_is_set_on_the_page_and_by_api(
    host: Host, client: Client, operator: Client, may_deploy: Headers
) -> None:
    form = {"name": "shop", "compose_file": COMPOSE, "timeout_seconds": "900", "host": host.pk}
    operator.post("/stacks/new/", {**form, "auto_rollback": "on"})
    stack = Stack.objects.get()
    path = f"/api/v1/stacks/{stack.pk}"
    assert client.get(path, headers=may_deploy).json()["auto_rollback"] is True
    assert "the last good one is deployed again" in text(operator.get(f"/stacks/{stack.pk}/"))
    body = {"auto_rollback": False}
    answer = client.patch(path, body, content_type="application/json", headers=may_deploy)
    assert answer.json()["auto_rollback"] is False
    assert audited("stack.changed") == [{"host": "alpha", "auto_rollback": False}]


def test_a_queued_deploy_is_cancelled_at_once(host: Host, client: Client, may_deploy: Headers) -> None:
    stack = make(host)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    answer = client.post(f"/api/v1/deploys/{deploy.pk}/cancel", headers=may_deploy)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["status"], body["cancelled_by"], body["is_changed"]) == ("cancelled", "deployer", False)
    assert "before the agent had it" in body["error"]
    assert fetch(host) == []
    stack.refresh_from_db()
    assert (stack.state, stack.has_failed_deploy, counted()) == ("stopped", False, (0, 0))
    assert audited("deploy.cancelled") == [
        {"host": "alpha", "deploy": deploy.pk, "operation": "up", "was": "queued"}
    ]
    assert client.post(f"/api/v1/deploys/{deploy.pk}/cancel", headers=may_deploy).status_code == 409
    deployed(stack)


@pytest.mark.parametrize(("is_changed", "state"), [(False, "stopped"), (True, "error")])
def test_a_running_deploy_is_broken_off_by_its_agent(host: Host, is_changed: bool, state: str) -> None:
    stack = make(host, auto_rollback=True)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    services.cancel_deploy(actor=ANN, deploy_id=deploy.pk)
    services.cancel_deploy(actor=ANN, deploy_id=deploy.pk)
    [cancel] = [each for each in fetch(host) if each["kind"] == "cancel"]
    assert cancel["payload"]["command"] == str(command["id"])
    assert AgentCommand.objects.filter(kind="cancel").count() == 1
    report(host, cancel["id"])
    report(host, command["id"], result="failure", error="pull: cancelled", is_changed=is_changed)
    deploy.refresh_from_db()
    stack.refresh_from_db()
    assert (deploy.status, deploy.error, stack.state) == ("cancelled", "pull: cancelled", state)
    assert counted() == (0, 0)
    assert len(audited("deploy.cancelled")) == 1
    assert audited("deploy.failed") == []
    assert fetch(host) == []


def test_a_deploy_that_was_quicker_than_its_cancelling_is_a_success(host: Host) -> None:
    deploy = services.request_deploy(actor=ANN, stack_id=make(host).pk)
    [command] = fetch(host)
    services.cancel_deploy(actor=ANN, deploy_id=deploy.pk)
    report(host, command["id"])
    deploy.refresh_from_db()
    assert (deploy.status, counted()) == ("success", (1, 0))


def test_an_agent_that_can_not_break_off_is_not_said_to(host: Host) -> None:
    Host.objects.update(agent_info={"capabilities": ["deploy"]})
    deploy = services.request_deploy(actor=ANN, stack_id=make(host).pk)
    fetch(host)
    with pytest.raises(Conflict, match="too old to end what it has begun"):
        services.cancel_deploy(actor=ANN, deploy_id=deploy.pk)
    assert not AgentCommand.objects.filter(kind="cancel").exists()


def test_a_deploy_is_cancelled_from_its_page(host: Host, operator: Client) -> None:
    deploy = services.request_deploy(actor=ANN, stack_id=make(host).pk)
    assert f'action="/deploys/{deploy.pk}/cancel/"' in operator.get(f"/deploys/{deploy.pk}/").content.decode()
    assert "Cancelled" in text(operator.post(f"/deploys/{deploy.pk}/cancel/", follow=True))
    assert f"/deploys/{deploy.pk}/cancel/" not in operator.get(f"/deploys/{deploy.pk}/").content.decode()


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"capabilities": [], "is_monitor_only": True}, "--monitor-only"),
        ({"capabilities": ["backup"], "compose_version": ""}, "alpha has no Docker Compose 2.20 or newer"),
        ({"capabilities": [], "compose_version": "1.29.2"}, "alpha has Docker Compose 1.29.2"),
        ({"capabilities": []}, "says that it carries out no deploys"),
    ],
)
def test_a_host_that_can_not_deploy_refuses_when_it_is_asked(
    host: Host, client: Client, may_deploy: Headers, info: dict[str, Any], reason: str
) -> None:
    stack = make(host)
    Host.objects.update(agent_info=info)
    for path in ("deploy", "restart", "stop", "preview"):
        answer = client.post(f"/api/v1/stacks/{stack.pk}/{path}", headers=may_deploy)
        assert answer.status_code == 409, path
        assert reason in answer.json()["detail"]
    assert not Deploy.objects.exists()


def test_an_agent_too_old_for_a_preview_is_named(host: Host) -> None:
    stack = make(host)
    Host.objects.update(agent_info={"capabilities": ["deploy", "backup"]})
    with pytest.raises(Conflict, match="too old to tell what a deploy would do"):
        services.request_preview(actor=ANN, stack_id=stack.pk)
    services.request_deploy(actor=ANN, stack_id=stack.pk)


@pytest.mark.parametrize("info", [{}, ABLE])
def test_what_an_agent_does_not_say_is_not_refused(host: Host, info: dict[str, Any]) -> None:
    stack = make(host)
    Host.objects.update(agent_info=info)
    assert end(services.request_preview(actor=ANN, stack_id=stack.pk)).status == "success"
