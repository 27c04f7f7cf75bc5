"""Adoption keeps what a file means, or names what would change and leaves the decision to the user."""

import json
from typing import Any

import pytest
from django.core import serializers
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import accept
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, InvalidInput
from dockmesh.deploys import api, services, surveys
from dockmesh.deploys.adoption import SurveyNeeded
from dockmesh.deploys.models import Deploy, StackFiles, Survey
from dockmesh.deploys.paths import relative_paths, takes_variables
from dockmesh.fleet.models import AgentCommand, HeartbeatState, Host, Stack
from tests.deploys.conftest import ANN, COMPOSE
from tests.deploys.support import fetch, report
from tests.deploys.test_api import Headers, get, post
from tests.deploys.test_pages import text
from tests.tokens.support import user_with

RELATIVE = "services:\n  db:\n    image: busybox\n    volumes: ['./data:/data']\n"
OVERRIDE = "services:\n  db:\n    image: busybox:1\n"


def found(**changes: Any) -> dict[str, Any]:
    return {
        "project_directory": "/opt/shop",
        "is_directory_visible": True,
        "config_files": [{"path": "/opt/shop/compose.yaml", "content": RELATIVE}],
        "env_files": [{"path": "/opt/shop/.env", "content": "PASSWORD=hunter2secret\n"}],
        "mounts": [
            {
                "service": "db",
                "target": "/data",
                "before": "/opt/shop/data",
                "after": "/opt/shop/data",
                "is_kept": True,
            }
        ],
        **changes,
    }


UNSEEN: dict[str, Any] = {
    "is_directory_visible": False,
    "config_files": [{"path": "/opt/shop/compose.yaml", "error": "the agent can't see it"}],
    "env_files": [],
    "mounts": [{"service": "db", "target": "/data", "before": "/opt/shop/data"}],
}


@pytest.fixture
def able(host: Host) -> Host:
    """A host whose agent can survey."""
    host.agent_info = {"capabilities": ["deploy", "survey"]}
    host.save()
    HeartbeatState.objects.filter(host=host).update(last_seen_at=clock.now(), sequence=1)
    return host


@pytest.fixture
def stack(able: Host) -> Stack:
    return Stack.objects.create(host=able, name="shop", state_changed_at=clock.now())


def surveyed(stack: Stack, answer: object = None, **result: Any) -> Survey:
    surveys.request_survey(actor=ANN, stack_id=stack.pk)
    [command] = [each for each in fetch(stack.host) if each["kind"] == "survey"]
    assert command["payload"]["stack"] == "shop"
    told: dict[str, Any] = {"found": found() if answer is None else answer} | result
    report(stack.host, command["id"], **told)
    return Survey.objects.get(stack=stack)


def adopt(stack: Stack, **wish: Any) -> StackFiles:
    services.adopt_stack(actor=ANN, stack_id=stack.pk, **wish)
    return StackFiles.objects.get(stack=stack)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (COMPOSE, []),
        ("services: {a: {volumes: [named:/n, /abs:/a, /anonymous, 'c:/x']}}", []),
        ("services: {a: {volumes: ['./d:/d', '..:/u', '~/h:/h:ro']}}", ["./d", "..", "~/h"]),
        ("services: {a: {volumes: ['${D:-./x}:/d', '$PWD/p:/p']}}", ["${D:-./x}", "$PWD/p"]),
        ("services: {a: {volumes: [{type: bind, source: q, target: /q}]}}", ["q"]),
        ("services: {a: {volumes: [{type: volume, source: v, target: /q}]}}", []),
        ("services: {a: {build: .}}", ["."]),
        ("services: {a: {build: {context: ./b, additional_contexts: [x=../c]}}}", ["./b", "../c"]),
        ("services: {a: {build: 'https://example.org/r.git#main'}}", []),
        ("services: {a: {env_file: one.env, label_file: [l]}}", ["one.env", "l"]),
        ("services: {a: {env_file: [{path: two.env, required: false}]}}", ["two.env"]),
        ("services: {a: {extends: {service: b, file: base.yaml}}}", ["base.yaml"]),
        ("services: {a: {extends: {service: b}}}", []),
        ("include: [x.yaml, {path: [y.yaml], env_file: e}]", ["x.yaml", "y.yaml", "e"]),
        ("include: x.yaml", ["x.yaml"]),
        ("configs: {c: {file: ./c}}\nsecrets: {s: {file: s}, t: {file: /s}}", ["./c", "s"]),
        ("volumes: {v: {driver_opts: {type: none, o: bind, device: ./v}}}", ["./v"]),
        ("x: &x {volumes: ['./m:/m']}\nservices: {a: {<<: *x, image: !reset null}}", ["./m"]),
        ("services: {a: {image: b}}\n---\nservices: {a: {build: ./late}}", ["./late"]),
        ("services: {a: {develop: {watch: [{path: ./src}]}}}", ["./src"]),
        ("services: {a: =, b: 0000-00-00, c: [1]}", []),
    ],
)
def test_relative_paths_are_found_wherever_compose_reads_one(text: str, paths: list[str]) -> None:
    found = relative_paths(text)
    assert found is not None
    assert [each.path for each in found] == paths


def test_what_is_no_yaml_is_not_called_free_of_paths() -> None:
    assert relative_paths("services: [") is None
    assert [takes_variables(text) for text in ("$$A", "a$", "$A", "${A}", "$$$A")] == [
        False, False, True, True, True,
    ]  # fmt: skip


@pytest.mark.django_db
def test_with_nothing_pasted_it_is_managed_by_its_own_files(stack: Stack) -> None:
    with pytest.raises(SurveyNeeded):
        adopt(stack)
    files = [{"path": "/opt/shop/compose.yaml", "content": RELATIVE}, {"path": "/b", "content": OVERRIDE}]
    surveyed(stack, found(config_files=files))
    kept = adopt(stack)
    assert (kept.compose_file, kept.project_directory) == (RELATIVE, "/opt/shop")
    assert kept.override_files == [{"path": "/b", "content": OVERRIDE}]
    assert not kept.is_directory_decided
    assert not Survey.objects.exists()
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    payload = fetch(stack.host)[-1]["payload"]
    assert [file["content"] for file in payload["files"]] == [RELATIVE, OVERRIDE]
    assert (payload["project_directory"], payload["env_file"]) == ("/opt/shop", "PASSWORD=hunter2secret\n\n")
    # What an older agent would get wrong it refuses.
    assert "compose_file" not in payload


@pytest.mark.django_db
def test_nothing_secret_lies_in_the_open(stack: Stack) -> None:
    surveyed(stack)
    stored = [Survey, AgentCommand, AuditEntry, Deploy]
    for model in stored:
        assert "hunter2" not in serializers.serialize("json", model._default_manager.all())
    adopt(stack)
    for model in [*stored, StackFiles]:
        assert "hunter2" not in serializers.serialize("json", model._default_manager.all())
    assert AuditEntry.objects.filter(action="stack.surveyed").count() == 1


@pytest.mark.django_db
def test_a_pasted_file_without_a_relative_path_is_taken_as_it_is(stack: Stack) -> None:
    assert adopt(stack, compose_file=COMPOSE).project_directory == ""


@pytest.mark.django_db
@pytest.mark.parametrize("file", [RELATIVE, "services: {a: {image: '${IMAGE}'}}\n"])
def test_a_pasted_file_that_means_something_only_there_waits_for_the_survey(stack: Stack, file: str) -> None:
    with pytest.raises(SurveyNeeded):
        adopt(stack, compose_file=file)
    surveyed(stack)
    kept = adopt(stack, compose_file=file)
    assert (kept.compose_file, kept.project_directory) == (file, "/opt/shop")


@pytest.mark.django_db
def test_a_folder_that_the_agent_does_not_see_leaves_the_decision_to_the_user(stack: Stack) -> None:
    surveyed(stack, found(**UNSEEN))
    with pytest.raises(
        Conflict, match=r"can't see /opt/shop.*\./data \(bind mount of db\), now in /opt/shop"
    ):
        adopt(stack, compose_file=RELATIVE)
    with pytest.raises(Conflict, match=r"db:/data has /opt/shop/data"):
        adopt(stack)
    kept = adopt(stack, compose_file=RELATIVE, project_directory="/opt/shop")
    assert (kept.project_directory, kept.is_directory_decided) == ("/opt/shop", True)
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    assert fetch(stack.host)[-1]["payload"]["is_directory_decided"] is True


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"mounts": [{"service": "db", "target": "/data", "before": "/a", "after": "", "is_kept": False}]},
            "db:/data has /a and would have nothing",
        ),
        ({"compose_error": "no such service"}, "no such service"),
        ({"env_files": [{"path": "/x.env", "error": "No such file or directory"}]}, "/x.env No such file"),
        ({"config_files": [{"path": "/c.yaml", "error": "is no regular file"}]}, "/c.yaml is no regular"),
        ({"config_files": [{"path": "/c.yaml", "content": "a: 1\na: 2"}]}, "/c.yaml"),
        ({"config_files": []}, "not started from files"),
    ],
)
def test_what_would_not_stay_is_named(stack: Stack, changes: dict[str, Any], reason: str) -> None:
    surveyed(stack, found(**changes))
    with pytest.raises(Conflict, match=reason):
        adopt(stack)
    stack.refresh_from_db()
    assert not stack.is_managed


@pytest.mark.django_db
def test_changed_mounts_can_be_accepted(stack: Stack) -> None:
    row = {"service": "db", "target": "/data", "before": "/a", "after": "/b", "is_kept": False}
    surveyed(stack, found(mounts=[row]))
    assert adopt(stack, accept_changes=True).is_directory_decided


@pytest.mark.django_db
def test_a_decision_holds_until_the_stack_runs_from_there(stack: Stack) -> None:
    surveyed(stack, found(**UNSEEN))
    adopt(stack, compose_file=RELATIVE, project_directory="/opt/shop")

    def deployed(result: str) -> bool:
        services.request_deploy(actor=ANN, stack_id=stack.pk)
        command = fetch(stack.host)[-1]
        report(stack.host, command["id"], result=result)
        return bool(command["payload"].get("is_directory_decided"))

    # One that failed, and looks, decide nothing.
    assert deployed("failure")
    services.request_deploy(actor=ANN, stack_id=stack.pk, operation="preview")
    report(stack.host, fetch(stack.host)[-1]["id"])
    assert deployed("success")
    assert not deployed("success")
    services.change_stack(actor=ANN, stack_id=stack.pk, project_directory="/srv/shop")
    assert deployed("failure")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "answer", [{"project_directory": 7}, {"config_files": [None]}, "text", [], {**found(), "mounts": 3}]
)
def test_an_answer_that_makes_no_sense_is_said_to_be_one(stack: Stack, answer: object) -> None:
    assert surveyed(stack, answer).error == surveys.NOT_UNDERSTOOD


@pytest.mark.django_db
def test_an_agent_that_can_not_read_files_is_not_asked(host: Host) -> None:
    HeartbeatState.objects.filter(host=host).update(last_seen_at=clock.now())
    stack = Stack.objects.create(host=host, name="shop", state_changed_at=clock.now())
    with pytest.raises(Conflict, match="can't read the files"):
        surveys.request_survey(actor=ANN, stack_id=stack.pk)
    # Nor may it be sent what it would take for something else.
    assert adopt(stack, compose_file=RELATIVE, project_directory="/opt/shop").project_directory == "/opt/shop"


@pytest.mark.django_db
@pytest.mark.parametrize("directory", ["opt/shop", "/opt/../etc", "/a\x00b", "/" + "a" * 2000, "~", "./x"])
def test_a_project_directory_is_a_whole_path(stack: Stack, directory: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        adopt(stack, compose_file=RELATIVE, project_directory=directory)
    assert list(caught.value.errors) == ["project_directory"]


@pytest.mark.django_db
def test_stop_and_removal_use_what_was_deployed(stack: Stack) -> None:
    adopt(stack, compose_file=COMPOSE)
    services.request_deploy(actor=ANN, stack_id=stack.pk, operation="stop")
    [command] = fetch(stack.host)
    assert command["payload"].keys() & {"compose_file", "files"} == set()  # nothing was deployed from here
    report(stack.host, command["id"])
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    report(stack.host, fetch(stack.host)[0]["id"])
    services.change_stack(
        actor=ANN,
        stack_id=stack.pk,
        compose_file="services: {web: {image: x, ports: ['a:b']}}\n",
        project_directory="/else",
    )
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    report(stack.host, fetch(stack.host)[0]["id"], result="failure")
    for operation in ("stop", "restart", "down"):
        services.request_deploy(actor=ANN, stack_id=stack.pk, operation=operation)
        [command] = fetch(stack.host)
        assert command["payload"]["compose_file"] == COMPOSE
        report(stack.host, command["id"], result="failure")


@pytest.mark.django_db
def test_an_env_file_that_can_not_be_decrypted_keeps_nothing_from_being_stopped(
    stack: Stack, settings: Any
) -> None:
    adopt(stack, compose_file=COMPOSE, env_file="A=1\n")
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    report(stack.host, fetch(stack.host)[0]["id"])
    settings.SECRET_KEY = "another key, as long as they have to be"
    accept(reason="the key was changed")
    services.request_deploy(actor=ANN, stack_id=stack.pk, operation="stop")
    [command] = fetch(stack.host)
    assert command["payload"].items() >= {"operation": "stop", "stack": "shop"}.items()
    assert "compose_file" not in command["payload"]


@pytest.mark.django_db
def test_rolling_back_leaves_the_stack_where_it_lives(stack: Stack) -> None:
    adopt(stack, compose_file=RELATIVE, project_directory="/old")
    first = services.request_deploy(actor=ANN, stack_id=stack.pk)
    report(stack.host, fetch(stack.host)[0]["id"])
    services.change_stack(actor=ANN, stack_id=stack.pk, project_directory="/new", compose_file=COMPOSE)
    services.roll_back(actor=ANN, deploy_id=first.pk)
    payload = fetch(stack.host)[0]["payload"]
    assert (payload["files"][0]["content"], payload["project_directory"]) == (RELATIVE, "/new")


@pytest.mark.django_db
def test_by_rest(stack: Stack, may_deploy: Headers, may_read: Headers, monkeypatch: Any) -> None:
    path = f"stacks/{stack.pk}"
    assert post(f"{path}/survey", may_read).status_code == 403
    assert get(f"{path}/survey", may_read).status_code == 403
    assert get(f"{path}/survey", may_deploy).status_code == 404
    monkeypatch.setattr(api, "SURVEY_WAIT_SECONDS", 0.0)
    answer = post(f"{path}/adopt", may_deploy, {"compose_file": RELATIVE})
    assert answer.status_code == 409
    assert "./data (bind mount of db)" in answer.json()["detail"]
    [command] = fetch(stack.host)
    report(stack.host, command["id"], found=found())
    answer = get(f"{path}/survey", may_deploy)
    assert answer.json()["found"]["config_files"][0]["content"] == RELATIVE
    assert answer.json()["found"]["env_files"][0]["env_names"] == ["PASSWORD"]
    assert "hunter2" not in json.dumps(answer.json())
    answer = post(f"{path}/adopt", may_deploy, {})
    assert (answer.status_code, answer.json()["project_directory"]) == (200, "/opt/shop")
    assert answer.json()["env_names"] == ["PASSWORD"]
    changed = post(path, may_deploy, {"project_directory": "/srv/shop/", "override_files": []}, "patch")
    assert changed.json()["project_directory"] == "/srv/shop"
    bad = post(path, may_deploy, {"override_files": [{"path": "x"}]}, "patch")
    assert (bad.status_code, "override_files" in str(bad.json()["errors"])) == (400, True)


@pytest.mark.django_db
def test_an_offline_host_is_not_waited_for(stack: Stack, may_deploy: Headers) -> None:
    HeartbeatState.objects.update(last_seen_at=clock.now().replace(year=2020))
    answer = post(f"stacks/{stack.pk}/adopt", may_deploy, {"compose_file": RELATIVE})
    assert answer.status_code == 409
    assert "is offline" in answer.json()["detail"]
    assert "./data (bind mount of db)" in answer.json()["detail"]


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read", "stacks.deploy", name="ann"))
    return client


@pytest.mark.django_db
def test_from_the_page_with_nothing_pasted(stack: Stack, operator: Client) -> None:
    path = f"/stacks/{stack.pk}/adopt/"
    assert "Read its files" in text(operator.get(path))
    assert operator.get(f"/stacks/{stack.pk}/survey/").status_code == 405
    operator.post(f"/stacks/{stack.pk}/survey/")
    assert "is asked since" in text(operator.get(path))
    [command] = fetch(stack.host)
    report(stack.host, command["id"], found=found())
    page = text(operator.get(path + "?part=live"))
    for shown in ("/opt/shop/compose.yaml", "PASSWORD", "db /data /opt/shop/data /opt/shop/data Stays"):
        assert shown in page
    assert "hunter2" not in page
    assert "Read again" in page
    form = {"survey": str(Survey.objects.get().request_id), "timeout_seconds": "900"}
    wrong = operator.post(path, {**form, "survey": "00000000-0000-4000-8000-000000000000"})
    assert "read anew meanwhile" in text(wrong, 409)
    assert operator.post(path, form)["Location"] == f"/stacks/{stack.pk}/"
    assert StackFiles.objects.get().project_directory == "/opt/shop"
    page = text(operator.get(f"/stacks/{stack.pk}/"))
    assert "Project directory /opt/shop" in page


@pytest.mark.django_db
def test_the_page_shows_what_would_change_and_asks(stack: Stack, operator: Client) -> None:
    row = {"service": "db", "target": "/data", "before": "/a", "after": "/b", "is_kept": False}
    survey = surveyed(stack, found(mounts=[row], others=["shop-web-1"]))
    path = f"/stacks/{stack.pk}/adopt/"
    page = text(operator.get(path))
    assert "db /data /a /b Changes" in page
    assert "Started from other files than these: shop-web-1" in page
    form = {"survey": str(survey.request_id), "timeout_seconds": "900"}
    assert "db:/data has /a and would have /b" in text(operator.post(path, form), 409)
    assert operator.post(path, {**form, "accept_changes": "on"}).status_code == 302


@pytest.mark.django_db
def test_pasted_on_the_page_it_is_surveyed_and_the_folder_decided(stack: Stack, operator: Client) -> None:
    path = f"/stacks/{stack.pk}/adopt/"
    typed = {"compose_file": RELATIVE, "env_file": "", "timeout_seconds": "900", "project_directory": ""}
    page = text(operator.post(path, typed), 409)
    assert "./data (bind mount of db)" in page
    [command] = fetch(stack.host)
    report(stack.host, command["id"], found=found(**UNSEEN))
    page = text(operator.post(path, typed), 409)
    assert "can't see /opt/shop" in page
    assert "./data (bind mount of db), now in /opt/shop" in page
    assert "./data:/data" in page
    assert operator.post(path, {**typed, "project_directory": "/srv/shop"}).status_code == 302
    files = StackFiles.objects.get()
    assert (files.project_directory, files.compose_file) == ("/srv/shop", RELATIVE)


@pytest.mark.django_db
def test_the_agents_own_folder_has_to_be_chosen(stack: Stack, operator: Client) -> None:
    typed = {"compose_file": RELATIVE, "env_file": "#", "timeout_seconds": "900", "is_own_folder": "on"}
    assert operator.post(f"/stacks/{stack.pk}/adopt/", typed).status_code == 302
    files = StackFiles.objects.get()
    assert (files.project_directory, files.is_directory_decided) == ("", True)


@pytest.mark.django_db
def test_files_and_folder_are_changed_on_the_page(stack: Stack, operator: Client) -> None:
    adopt(
        stack,
        compose_file=RELATIVE,
        override_files=[{"path": "one.yaml", "content": OVERRIDE}, {"path": "two.yaml", "content": OVERRIDE}],
        project_directory="/srv/shop",
    )
    StackFiles.objects.update(is_directory_decided=False)
    path = f"/stacks/{stack.pk}/change/"
    page = text(operator.get(path))
    assert "Laid over it: one.yaml" in page
    typed = {"compose_file": RELATIVE, "env_file": "", "timeout_seconds": "900"}
    typed |= {"project_directory": "/srv/shop", "override_0": "", "override_1": OVERRIDE + "# x\n"}
    assert operator.post(path, typed).status_code == 302
    files = StackFiles.objects.get()
    assert files.override_files == [{"path": "two.yaml", "content": OVERRIDE + "# x\n"}]
    assert not files.is_directory_decided
    operator.post(path, {**typed, "override_0": OVERRIDE, "is_directory_decided": "on"})
    assert StackFiles.objects.get().is_directory_decided
    operator.post(path, {**typed, "override_0": OVERRIDE, "project_directory": "/srv/moved"})
    assert StackFiles.objects.get().project_directory == "/srv/moved"


@pytest.mark.django_db
def test_compose_files_are_for_those_who_may_deploy(
    stack: Stack, operator: Client, may_deploy: Headers, may_read: Headers
) -> None:
    adopt(stack, compose_file=RELATIVE, project_directory="/srv/shop")
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    viewer = Client()
    viewer.force_login(user_with("fleet.read", name="vic"))
    for page in (f"/stacks/{stack.pk}/", f"/deploys/{deploy.pk}/"):
        assert "./data:/data" in text(operator.get(page))
        assert "./data:/data" not in text(viewer.get(page))
    for path in (f"stacks/{stack.pk}", f"deploys/{deploy.pk}"):
        assert get(path, may_deploy).json()["compose_file"] == RELATIVE
        assert get(path, may_read).json()["compose_file"] is None
    assert viewer.get(f"/stacks/{stack.pk}/adopt/").status_code == 403
