"""A known host gets a new agent token by an enrollment token of its own, and stays what it is."""

from __future__ import annotations

import datetime
import html
import json
import re
import subprocess
import threading
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from dockmesh.agent.config import parse
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.fleet import services
from dockmesh.fleet.installing import renewal_ways
from dockmesh.fleet.models import Container, EnrollmentToken, Host
from dockmesh.web.apidocs import openapi
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host
from tests.tokens.support import bearer, secret_of, token_with, user_with
from tokens import secret
from tokens.permissions import BUILT_IN_ROLES, Permission

pytestmark = pytest.mark.django_db


MAY_RENEW = ("fleet.manage", "stacks.deploy", "backups.manage")


def renewal(host: Host, seconds: int = 3600) -> str:
    lifetime = datetime.timedelta(seconds=seconds)
    return services.create_enrollment_token(actor=SYSTEM, lifetime=lifetime, host_id=host.pk)[1]


def enroll(token: str, **body: Any) -> Any:
    return Client().post(
        "/api/v1/agents/enroll",
        data=json.dumps(body or {"hostname": "something-else", "labels": {"env": "other"}}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )


def ask(body: Any, *permissions: str, name: str = "tok") -> Any:
    return Client().post(
        "/api/v1/enrollment-tokens",
        data=json.dumps(body),
        content_type="application/json",
        headers=bearer(token_with(*permissions, name=name)[1]),
    )


def test_the_host_keeps_name_labels_and_history_and_the_old_token_ends(agent: AgentClient) -> None:
    agent.beat(heartbeat(5, containers=[container("a")]))
    Host.objects.update(labels={"env": "prod"}, address="10.0.0.5")
    before: dict[str, Any] = dict(Host.objects.values().get())
    made = ask({"host": agent.host.pk}, *MAY_RENEW)
    assert made.status_code == 201
    assert made["Cache-Control"] == "no-store"
    assert made.json()["host"] == {"id": agent.host.pk, "name": "web"}
    assert made.json()["is_renewal"] is True
    # Making the token ends nothing yet.
    assert agent.beat(heartbeat(6)).status_code == 200

    answer = enroll(made.json()["token"])
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {"host", "agent_token", "is_renewal", "heartbeat_interval_seconds"}
    assert body["is_renewal"] is True
    assert body["host"] == {"id": agent.host.pk, "name": "web"}
    assert agent.beat(heartbeat(7)).status_code == 401
    renewed = AgentClient(agent.host, body["agent_token"])
    assert renewed.beat(heartbeat(0, boot_id="another")).json()["status"] == "accepted"
    after: dict[str, Any] = dict(Host.objects.values().get())
    own = {"agent_token_id", "agent_digest", "agent_pepper", "past_boots"}
    assert {name for name in before if before[name] != after[name]} <= own
    assert Container.objects.get().name == "web-a"


def test_it_is_audited_without_the_secret(agent: AgentClient) -> None:
    token = renewal(agent.host)
    text = enroll(token).json()["agent_token"]
    created, enrolled = AuditEntry.objects.order_by("sequence")
    assert created.changes["host"] == "web"
    assert (enrolled.actor_kind, enrolled.target_name) == ("agent", "web")
    assert enrolled.changes["hostname"] == "something-else"
    written = json.dumps([entry.changes for entry in AuditEntry.objects.all()])
    for each in (token, text):
        assert secret_of(each) not in written


def test_a_renewal_works_once(agent: AgentClient) -> None:
    token = renewal(agent.host)
    text = enroll(token).json()["agent_token"]
    again = enroll(token)
    unknown = enroll(str(secret.generate(secret.Kind.ENROLLMENT)))
    assert (again.status_code, unknown.status_code) == (401, 401)
    assert again.content == unknown.content
    assert AgentClient(agent.host, text).beat(heartbeat(1)).status_code == 200


def test_an_expired_or_deleted_renewal_lets_nobody_in(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, deleted = renewal(agent.host, 60), renewal(agent.host)
    services.delete_enrollment_token(actor=SYSTEM, token_id=EnrollmentToken.objects.latest("pk").pk)
    assert enroll(deleted).status_code == 401
    later = clock.now() + datetime.timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert enroll(expired).status_code == 401
    assert agent.beat(heartbeat(1)).status_code == 200


def test_a_renewal_of_a_removed_host_lets_no_new_one_in(agent: AgentClient) -> None:
    token = renewal(agent.host)
    early = EnrollmentToken.objects.get()
    services.remove_host(actor=SYSTEM, host_id=agent.host.pk)
    assert enroll(token).status_code == 401
    # Also when the host goes between the look at the token and its use.
    from tokens.bearer import Refused

    with pytest.raises(Refused):
        services.enroll(token=early, hostname="web", labels={}, address="")
    assert not Host.objects.exists()
    made = make_host("web")[0]
    assert enroll(token).status_code == 401
    assert Host.objects.get() == made
    assert EnrollmentToken.objects.get().used_at is None


@pytest.mark.parametrize("host", [0, -1, 999_999, 2**63, 2**63 - 1, "web", True, 1.5, [1]])
def test_a_host_that_is_none_is_400_by_its_name(host: Any) -> None:
    answer = ask({"host": host}, *MAY_RENEW)
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["host"]
    assert not EnrollmentToken.objects.exists()


def test_without_a_host_it_is_for_a_new_one(agent: AgentClient) -> None:
    made = ask({"host": None}, "fleet.manage").json()
    assert (made["host"], made["is_renewal"]) == (None, False)
    answer = enroll(made["token"]).json()
    assert answer["host"]["id"] != agent.host.pk
    assert answer["is_renewal"] is False


@pytest.mark.parametrize("lacking", MAY_RENEW)
def test_by_rest_it_takes_each_of_the_three_permissions(agent: AgentClient, lacking: str) -> None:
    held = [each for each in Permission if each != lacking]
    for host in (agent.host.pk, "web", "no such host"):
        answer = ask({"host": host}, *held, name=f"tok {host}")
        assert answer.status_code == 403
        assert answer["Content-Type"] == "application/problem+json"
        assert 'error="insufficient_scope"' in answer["WWW-Authenticate"]
        entry = AuditEntry.objects.get(action="permission.refused", actor_name=f"tok {host}")
        assert entry.changes == {"refused": lacking, "path": "/api/v1/enrollment-tokens"}
    assert not EnrollmentToken.objects.exists()


def test_by_rest_every_permission_that_lacks_is_named(agent: AgentClient) -> None:
    answer = ask({"host": agent.host.pk}, "fleet.manage")
    assert answer.json()["detail"].endswith("also takes stacks.deploy and backups.manage.")
    refused = AuditEntry.objects.get(action="permission.refused")
    assert refused.changes["refused"] == "stacks.deploy, backups.manage"


def test_for_a_new_host_fleet_manage_is_enough() -> None:
    assert ask({}, "fleet.manage").status_code == 201


@pytest.mark.parametrize("lacking", MAY_RENEW)
def test_on_the_pages_it_takes_each_of_the_three_permissions(agent: AgentClient, lacking: str) -> None:
    client = Client()
    client.force_login(user_with(*(each for each in Permission if each != lacking)))
    path = f"/hosts/{agent.host.pk}/credential/"
    assert client.get(path).status_code == 403
    assert client.post(path, {"lifetime": "3600"}).status_code == 403
    assert path not in client.get(f"/hosts/{agent.host.pk}/").content.decode()
    assert not EnrollmentToken.objects.exists()
    entry = AuditEntry.objects.get(action="permission.refused")
    assert entry.changes == {"refused": lacking, "path": path}


def test_a_session_needs_them_by_rest_too(agent: AgentClient) -> None:
    client = Client()
    client.force_login(user_with("fleet.read", "fleet.manage"))
    body = json.dumps({"host": agent.host.pk})
    assert client.post("/api/v1/enrollment-tokens", body, "application/json").status_code == 403
    assert not EnrollmentToken.objects.exists()


def test_the_built_in_operator_may_renew_and_the_schema_says_what_it_takes() -> None:
    assert set(MAY_RENEW) <= BUILT_IN_ROLES["operator"]
    text = openapi()["paths"]["/api/v1/enrollment-tokens"]["post"]["description"]
    assert "`stacks.deploy` and `backups.manage`" in text


def test_a_bad_enrollment_leaves_the_token_unused(agent: AgentClient) -> None:
    token = renewal(agent.host)
    assert enroll(token, hostname="").status_code == 400
    assert agent.beat(heartbeat(1)).status_code == 200
    assert enroll(token).status_code == 201


def test_the_command_makes_one_for_the_host_of_that_name(
    agent: AgentClient, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("enrollmenttoken", "--host", "web")
    token = capsys.readouterr().out.strip()
    assert enroll(token).json()["host"]["id"] == agent.host.pk
    with pytest.raises(CommandError, match="there is no host named 'nobody'"):
        call_command("enrollmenttoken", "--host", "nobody")


def test_the_page_shows_the_token_once_and_turns_green(agent: AgentClient) -> None:
    agent.beat(heartbeat(1))
    browser = Client()
    browser.force_login(user_with("fleet.read", *MAY_RENEW))
    path = f"/hosts/{agent.host.pk}/credential/"
    assert f'href="{path}"' in browser.get(f"/hosts/{agent.host.pk}/").content.decode()
    assert "keeps its name, labels and history" in browser.get(path).content.decode()
    assert not EnrollmentToken.objects.exists()
    answer = browser.post(path, {"lifetime": "3600"})
    assert answer["Cache-Control"] == "no-store"
    page = html.unescape(answer.content.decode())
    [token] = set(re.findall(r"dme_\w{60}", page))
    assert "credential.json" in page
    waits = f"/hosts/add/{EnrollmentToken.objects.get().pk}/"
    assert "Waiting for the agent" in browser.get(waits).content.decode()
    text = enroll(token).json()["agent_token"]
    waiting = browser.get(f"{waits}?part=live").content.decode()
    assert "Waiting for its next heartbeat" in " ".join(waiting.split())
    AgentClient(agent.host, text).beat(heartbeat(2))
    shown = " ".join(browser.get(waits).content.decode().split())
    assert "reports with its new token" in shown
    assert token not in shown
    services.remove_host(actor=SYSTEM, host_id=agent.host.pk)
    assert "The host was removed" in browser.get(waits).content.decode()
    assert browser.get(path).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_of_twenty_at_once_one_gets_in() -> None:
    host, old = make_host("web")
    token = renewal(host)
    barrier = threading.Barrier(20)
    answers: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            answers.append(enroll(token))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 19
    [text] = [answer.json()["agent_token"] for answer in answers if answer.status_code == 201]
    assert AgentClient(host, old).beat(heartbeat(1)).status_code == 401
    assert AgentClient(host, text).beat(heartbeat(1)).status_code == 200
    assert Host.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_renewing_and_removing_at_once_wait_for_each_other() -> None:
    for _ in range(5):
        host, _old = make_host("web")
        token = renewal(host)
        codes: list[int] = []

        def use(token: str = token, codes: list[int] = codes) -> None:
            try:
                codes.append(enroll(token).status_code)
            finally:
                connection.close()

        def remove(pk: int = host.pk) -> None:
            try:
                services.remove_host(actor=SYSTEM, host_id=pk)
            finally:
                connection.close()

        threads = [threading.Thread(target=use), threading.Thread(target=remove)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes[0] in (201, 401)
        assert not Host.objects.exists()


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("own", [{}, {"XDG_STATE_HOME": "/xdg"}])
def test_by_hand_the_credential_goes_from_where_the_agent_of_that_user_keeps_it(
    uid: int, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines are run by a shell in which `id` and `rm` only tell."""
    [lines] = [way.command for way in renewal_ways("https://d", "dme_x") if way.title == "By hand"]
    lines, _, run = lines.rpartition("\n")
    assert run.startswith("python3 dockmesh-agent.pyz run ")
    told = f'id() {{ echo {uid}; }}; rm() {{ echo "$2"; }}\n{lines}'
    monkeypatch.setenv("HOME", "/home/ann")
    done = subprocess.run(
        ["/bin/sh", "-c", told], capture_output=True, text=True, check=True, env={"HOME": "/home/ann", **own}
    )
    monkeypatch.setattr("os.geteuid", lambda: uid)
    settings = parse(["run", "--server=https://d"], own)
    assert done.stdout.strip() == str(settings.state_dir / "credential.json")
