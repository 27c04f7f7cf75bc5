"""The last message is the true state, and no receiver is anybody else's trouble."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from dockmesh.alerts import deliveries, receivers, selectors, sender, services
from dockmesh.alerts.deliveries import Dispatcher
from dockmesh.alerts.models import Alert, AlertRule, Channel, Notification
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from dockmesh.core.encrypted import encrypt
from dockmesh.core.errors import InvalidInput
from dockmesh.fleet.models import Host
from tests.alerts.conftest import Time
from tests.alerts.support import deliver_due, make_container, make_host, push_to_alertmanagers, see
from tests.integration.prometheus import (
    ALERTMANAGER_NAMES,
    AlertmanagerServer,
    WebhookReceiver,
    find_program,
    free_port,
    wait_for,
)
from tests.integration.versions import require_version
from tests.tokens.support import token_with, user_with

pytestmark = pytest.mark.django_db

ROUTES = """
route: {receiver: hook, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: "URL", send_resolved: true}]}]
"""


def channel(url: str, *, name: str = "ops", kind: str = "apprise") -> Channel:
    return services.create_channel(actor=SYSTEM, name=name, kind=kind, url=url)


def offline_rule(**values: Any) -> AlertRule:
    rule = services.RuleInput(name="Host offline", kind="host_offline", **values)
    return services.create_rule(actor=SYSTEM, rule=rule)


def titles(receiver: WebhookReceiver) -> list[str]:
    return [document["title"] for _, document in receiver.received()]


def statuses() -> list[tuple[str, str]]:
    return list(Notification.objects.order_by("id").values_list("event", "status"))


class TestOrder:
    def fire(self, host: Host, time: Time) -> None:
        time.passes(100)
        services.evaluate()

    def resolve(self, host: Host, time: Time) -> None:
        see(host)
        services.evaluate()

    def test_a_receiver_that_is_away_is_told_the_last_state_only(self, time: Time) -> None:
        port = free_port()
        channel(f"json://127.0.0.1:{port}/")
        offline_rule()
        host = make_host("web-1")
        self.fire(host, time)
        for _ in range(4):
            deliver_due()
            time.passes(900)
        assert statuses() == [("firing", "queued")]
        self.resolve(host, time)
        deliver_due()
        assert statuses() == [("firing", "dropped"), ("resolved", "queued")]
        time.passes(600)
        see(host)
        with WebhookReceiver(port) as receiver:
            deliver_due()
            deliver_due()
            assert titles(receiver) == ["[warning] Resolved: Host offline"]
        assert statuses() == [("firing", "dropped"), ("resolved", "sent")]

    def test_what_nobody_heard_of_needs_no_end(self, time: Time) -> None:
        with WebhookReceiver() as receiver:
            channel(receiver.url.replace("http", "json"))
            offline_rule()
            host = make_host("web-1")
            self.fire(host, time)
            self.resolve(host, time)
            deliver_due()
            assert titles(receiver) == []
        assert statuses() == [("firing", "dropped")]

    def test_an_end_that_waits_is_dropped_when_it_fires_again(
        self, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with WebhookReceiver() as receiver:
            channel(receiver.url.replace("http", "json"))
            offline_rule()
            host = make_host("web-1")
            self.fire(host, time)
            deliver_due()
            self.resolve(host, time)
            with monkeypatch.context() as away:
                away.setattr(receivers, "send", fails)
                deliver_due()
            self.fire(host, time)
            time.passes(600)
            deliver_due()
            assert titles(receiver) == ["[warning] Firing: Host offline"] * 2
        assert [status for _, status in statuses()] == ["sent", "dropped", "sent"]
        assert selectors.channel_samples() == [("ops", 2, 1, 1)]

    def test_a_message_that_is_under_way_when_it_ends_is_not_sent_again(
        self, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel("json://192.0.2.1/")
        offline_rule()
        host = make_host("web-1")
        self.fire(host, time)

        def ends_meanwhile(*_: object) -> None:
            self.resolve(host, time)
            raise receivers.NotSent("no answer within 10 s")

        monkeypatch.setattr(receivers, "send", ends_meanwhile)
        deliver_due()
        assert statuses() == [("firing", "dropped"), ("resolved", "queued")]

    def test_a_receiver_that_is_back_is_told_at_once(
        self, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[str] = []
        channel("json://192.0.2.1/")
        offline_rule()
        make_host("web-1")
        make_host("web-2")
        time.passes(100)
        services.evaluate()
        with monkeypatch.context() as away:
            away.setattr(receivers, "send", fails)
            for _ in range(60):
                deliver_due()
                time.passes(10)
        Notification.objects.filter(alert__host_name="web-1").update(next_attempt_at=time.now)
        monkeypatch.setattr(receivers, "send", lambda _, message: sent.append(message.body))
        deliver_due()
        assert [body.partition("\n")[0] for body in sent] == ["Host web-1", "Host web-2"]

    def test_the_alerts_of_a_removed_rule_end(self, time: Time) -> None:
        with WebhookReceiver() as receiver:
            channel(receiver.url.replace("http", "json"))
            rule = offline_rule()
            make_host("web-1")
            time.passes(100)
            services.evaluate()
            deliver_due()
            services.remove_rule(actor=SYSTEM, rule_id=rule.pk)
            deliver_due()
            assert titles(receiver) == ["[warning] Firing: Host offline", "[warning] Resolved: Host offline"]
            assert "The rule was removed." in receiver.received()[1][1]["message"]

    def test_what_a_muted_rule_has_queued_waits(self, time: Time) -> None:
        channel("json://192.0.2.1/")
        rule = offline_rule()
        make_host("web-1")
        time.passes(100)
        services.evaluate()
        assert deliveries.due_channels()
        AlertRule.objects.filter(pk=rule.pk).update(muted_until=time.now.replace(year=2027))
        assert not deliveries.due_channels()


def test_an_older_replica_can_still_queue(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows none of the columns in which a message has its words."""
    told = channel("json://192.0.2.1/")
    offline_rule(severity="critical")
    make_host("web-1")
    time.passes(100)
    services.evaluate()
    Notification.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO alerts_notification (alert_id, channel_id, event, status, attempts, next_attempt_at,"
            " last_error) VALUES (%s, %s, 'firing', 'queued', 0, %s, '')",
            [Alert.objects.get().pk, told.pk, time.now],
        )
    sent: list[tuple[str, str, str]] = []
    monkeypatch.setattr(receivers, "send", lambda _, each: sent.append((each.title, each.type, each.body)))
    time.passes(1)
    deliver_due()
    ((title, type, body),) = sent
    assert (title, type) == ("[critical] Firing: Host offline", "failure")
    assert body.startswith("Host web-1\nEnrolled")


def fails(*_: object) -> None:
    raise receivers.NotSent("connection refused")


@pytest.mark.parametrize(
    ("severity", "type"), [("info", "info"), ("warning", "warning"), ("critical", "failure")]
)
def test_severities_are_apprises_types(severity: str, type: str, time: Time) -> None:
    with WebhookReceiver() as receiver:
        channel(receiver.url.replace("http", "json"))
        offline_rule(severity=severity)
        host = make_host("web-1", seen_seconds_ago=100)
        services.evaluate()
        deliver_due()
        see(host)
        services.evaluate()
        deliver_due()
        assert [document["type"] for _, document in receiver.received()] == [type, "success"]


class TestAlertmanager:
    def test_it_gets_one_document_for_each_set_of_labels(self, time: Time) -> None:
        told = channel("http://192.0.2.1:9093", kind="alertmanager")
        offline_rule(severity="critical")
        host = make_host("h1")
        for _ in range(2):
            time.passes(100)
            services.evaluate()
            see(host)
            services.evaluate()
        assert Alert.objects.count() == 2
        (document,) = deliveries.alertmanager_documents(told, time.now)
        assert (document["startsAt"], document["endsAt"]) == (time.now.isoformat(),) * 2
        time.passes(100)
        services.evaluate()
        (document,) = deliveries.alertmanager_documents(told, time.now)
        assert document["startsAt"] == time.now.isoformat()
        assert document["endsAt"] > time.now.isoformat()

    @pytest.mark.integration
    @pytest.mark.parametrize("suite", ["", "sid"])
    def test_a_real_one_tells_of_each_beginning_and_end_once(self, suite: str) -> None:
        name = ALERTMANAGER_NAMES[0]
        program = require_version(name, suite) if suite else find_program(*ALERTMANAGER_NAMES)
        with (
            WebhookReceiver() as hook,
            AlertmanagerServer(ROUTES.replace("URL", hook.url), program=program) as alertmanager,
        ):
            channel(f"http://{alertmanager.address}/", kind="alertmanager")
            offline_rule(severity="critical")
            make_container(make_host("h1"), "web")

            def told(*expected: str) -> None:
                for _ in range(3):
                    push_to_alertmanagers()
                wait_for(
                    lambda: [each["status"] for each in hook.notifications()] == list(expected),
                    what=f"{expected}, not {hook.notifications()}",
                )

            host = Host.objects.get()
            silent(host)
            told("firing")
            see(host)
            services.evaluate()
            told("firing", "resolved")
            silent(host)
            told("firing", "resolved", "firing")
        assert Channel.objects.get().last_error == ""


def silent(host: Host) -> None:
    host.heartbeat_state.refresh_from_db()
    host.heartbeat_state.last_seen_at = host.enrolled_at.replace(year=2020)
    host.heartbeat_state.save()
    services.evaluate()


class TestOneHurtsNobody:
    def test_a_channel_that_hangs_keeps_nobody_waiting(self) -> None:
        released = threading.Event()
        told: list[int] = []
        both = threading.Event()

        def work(channel_id: int) -> None:
            if channel_id < 10:
                released.wait(30)
            told.append(channel_id)
            if len(told) == 2:
                both.set()

        dispatcher = Dispatcher(work)
        failing = [(channel_id, True) for channel_id in range(10)]
        try:
            for _ in range(3):
                dispatcher.dispatch([*failing, (10, False), (11, False)])
                if both.wait(0.5):
                    break
            assert both.wait(10)
            assert set(told) == {10, 11}
        finally:
            released.set()

    def test_a_claim_is_longer_than_any_attempt(self) -> None:
        """The program may have to be started twice before a process begins to speak."""
        longest = 2 * receivers.START_SECONDS + receivers.SEND_SECONDS
        assert deliveries.CLAIM.total_seconds() > longest

    def test_a_channel_is_told_by_one_process_at_a_time(self, time: Time) -> None:
        told = channel("json://192.0.2.1/")
        Notification.objects.create(
            channel=told, event="test", title="t", body="b", type="info", next_attempt_at=time.now
        )
        assert deliveries._claim(told.pk)
        deliveries.deliver(told.pk)
        assert Notification.objects.get().attempts == 0
        time.passes(91)  # whoever had claimed it has died
        assert deliveries._claim(told.pk)


class Misbehaving(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/404"):
            self.send_error(404)
        elif self.path.startswith("/redirect"):
            self.send_response(307)
            self.send_header("Location", "http://169.254.169.254/latest")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()
            self.drip(b"x" * 65_536 if self.path.startswith("/endless") else b"x")

    def drip(self, chunk: bytes) -> None:
        try:
            while True:
                self.wfile.write(chunk)
                if len(chunk) == 1 and self.server.is_over.wait(0.2):  # type: ignore[attr-defined]
                    return
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def misbehaving() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    server.daemon_threads = True
    server.is_over = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.is_over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["apprise", "alertmanager"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("404", "404 Not Found"),
        ("endless", "longer than 262144 bytes"),
        ("drip", "no answer within 2 s"),
        ("redirect", ""),
        (None, "connection refused"),
    ],
)
def test_why_it_was_not_sent_is_kept_without_the_secret(
    kind: str, path: str | None, reason: str, misbehaving: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "drip":
        monkeypatch.setattr(receivers, "SEND_SECONDS", 2.0)
    scheme, port = "json" if kind == "apprise" else "http", misbehaving if path else free_port()
    url = f"{scheme}://user:s3cret@127.0.0.1:{port}"
    made = channel(url, kind=kind)
    if path:
        # Past the check of an address, as if it were a redirect or a name that leads elsewhere.
        made.encrypted_url = encrypt(f"{url}/{path}?x=", purpose=receivers.URL_PURPOSE)
        made.save()
    services.request_test(actor=SYSTEM, channel_id=made.pk)
    deliver_due()
    message = Notification.objects.get()
    made.refresh_from_db()
    assert message.status == "failed"
    assert made.last_error == message.last_error
    expected = reason or ("link-local" if kind == "apprise" else "307 Temporary Redirect")
    assert expected in message.last_error
    assert "s3cret" not in message.last_error


class Hanging(BaseHTTPRequestHandler):
    """Answers when the test is over."""

    def do_POST(self) -> None:
        self.server.hanging.release()  # type: ignore[attr-defined]
        self.server.is_over.wait(60)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def hanging() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hanging)
    server.daemon_threads = True
    server.is_over = threading.Event()  # type: ignore[attr-defined]
    server.hanging = threading.Semaphore(0)  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.is_over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


class TestProcesses:
    """What speaks to receivers is started once and forks; each message still has a process of its own."""

    @pytest.fixture
    def starts(self, monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
        started: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def starting(*arguments: Any, **options: Any) -> Any:
            started.append(popen(*arguments, **options))
            return started[-1]

        monkeypatch.setattr(receivers, "_senders", receivers._Senders())
        monkeypatch.setattr(subprocess, "Popen", starting)
        return started

    def send(self, url: str) -> str:
        return receivers._ordered(receivers.SEND_SECONDS, what="apprise", url=url, title="t", body="b")

    def test_five_that_hang_keep_a_sixth_from_nothing(
        self, hanging: Any, starts: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receivers, "SEND_SECONDS", 60.0)
        with WebhookReceiver() as receiver, ThreadPoolExecutor(5) as others:
            hang = [
                others.submit(self.send, f"json://127.0.0.1:{hanging.server_address[1]}/") for _ in range(5)
            ]
            for _ in hang:
                assert hanging.hanging.acquire(timeout=60)
            assert self.send(receiver.url.replace("http", "json")) == ""
            assert titles(receiver) == ["t"]
            assert not any(each.done() for each in hang)
            hanging.is_over.set()
        assert len(starts) == 1

    def test_a_process_whose_time_is_up_ends(
        self, hanging: Any, starts: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receivers, "SEND_SECONDS", 3.0)
        assert "no answer" in self.send(f"json://127.0.0.1:{hanging.server_address[1]}/")
        (program,) = starts
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        wait_for(lambda: children.read_text() == "", what="the end of the process that hung")

    def test_a_program_that_has_ended_is_started_anew(self, starts: list[Any]) -> None:
        with WebhookReceiver() as receiver:
            for _ in range(2):
                assert self.send(receiver.url.replace("http", "json")) == ""
                starts[-1].kill()
                starts[-1].wait()
            assert titles(receiver) == ["t", "t"]
        assert len(starts) == 2

    def test_it_knows_no_setting_of_the_server(
        self, starts: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKMESH_SECRET_KEY", "s3cret")
        assert receivers.check("apprise", "nonsense://x").startswith("not an Apprise address")
        assert b"DOCKMESH_" not in Path(f"/proc/{starts[0].pid}/environ").read_bytes()


LINK_LOCAL = (
    "169.254.169.254",
    "0xA9FEA9FE",
    "2852039166",
    "[fe80::1]",
    "[::ffff:169.254.1.1]",
    "[64:ff9b::a9fe:a9fe]",
)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433")


def check(url: str, **order: Any) -> str:
    """As the process of its own does, without its start."""
    return sender._check(sender.Order("check", url, **order))


class TestAddresses:
    @pytest.mark.parametrize("host", LINK_LOCAL)
    def test_link_local_is_refused_always(self, host: str) -> None:
        for schema in ("json", "xml", "form", "ntfy"):
            assert "link-local" in check(f"{schema}://{host}/topic", is_loopback_allowed=True)
        assert "link-local" in check(f"http://{host}:9093", is_alertmanager=True)

    @pytest.mark.parametrize("host", LOOPBACK)
    def test_loopback_is_refused_unless_it_is_allowed(self, host: str) -> None:
        url = f"gotify://{host}/abcdefghijklmno"
        assert check(url, is_loopback_allowed=True) == ""
        assert "DOCKMESH_ALERT_LOCAL_RECEIVERS" in check(url)
        assert check(f"http://{host}:9093", is_alertmanager=True) == ""

    def test_a_channel_with_such_an_address_is_not_made(self, settings: Any) -> None:
        settings.DOCKMESH_ALERT_LOCAL_RECEIVERS = False
        for host, reason in (("169.254.169.254", "link-local"), ("127.0.0.1", "LOCAL_RECEIVERS")):
            with pytest.raises(InvalidInput, match=reason):
                channel(f"json://{host}/")

    @pytest.mark.parametrize(
        ("connect", "address"),
        [
            (lambda address: socket.create_connection((address, 9), timeout=1), "127.0.0.1"),
            (lambda address: socket.create_connection((address, 9), timeout=1), "169.254.169.254"),
            (lambda address: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (address, 9)), "127.0.0.1"),
        ],
    )
    def test_what_a_name_leads_to_is_looked_at_as_it_connects(
        self, connect: Callable[[str], object], address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("connect", "connect_ex", "sendto"):
            monkeypatch.setattr(socket.socket, name, getattr(socket.socket, name))
        monkeypatch.setattr(socket.SocketIO, "readinto", socket.SocketIO.readinto)
        found = socket.getaddrinfo

        def lies(host: str, *arguments: Any, **options: Any) -> Any:
            return found(address if host == "receiver.example" else host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", lies)
        sender.guard(is_loopback_allowed=False)
        with pytest.raises(sender.Refused, match="nothing is sent to"):
            connect("receiver.example")

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:9093/?x=1",
            "http://127.0.0.1:9093/admin/delete",
            "http://127.0.0.1:9093?",
            "http://127.0.0.1:9093/#",
            "http://",
            "http://127.0.0.1:x",
            "ftp://127.0.0.1",
            "nonsense",
        ],
    )
    def test_an_alertmanagers_address_is_a_base(self, url: str) -> None:
        with pytest.raises(InvalidInput, match="base"):
            channel(url, kind="alertmanager")

    def test_it_may_be_on_this_machine_and_have_its_usual_prefix(self, settings: Any) -> None:
        settings.DOCKMESH_ALERT_LOCAL_RECEIVERS = False
        for number, url in enumerate(
            ("http://localhost:9093", "https://127.0.0.1/", "http://[::1]:9093/alertmanager/")
        ):
            channel(url, kind="alertmanager", name=f"am-{number}")

    def test_what_apprise_does_not_know_is_named_without_its_secret(self) -> None:
        with pytest.raises(InvalidInput) as refused:
            channel("nonsense://user:s3cret@example.com")
        assert "not an Apprise address: nonsense://" in str(refused.value.errors)
        assert "s3cret" not in str(refused.value.errors)


class TestTests:
    """A test of a channel is sent by the scheduler; who asked waits a moment for it."""

    def post(self, client: Client, pk: int, text: str) -> Any:
        return client.post(f"/api/v1/alert-channels/{pk}/test", headers={"Authorization": f"Bearer {text}"})

    def test_it_is_queued_once_and_audited(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deliveries, "outcome", lambda _: None)
        made = channel("json://192.0.2.1/")
        _, text = token_with("alerts.manage")
        for _ in range(2):
            assert self.post(client, made.pk, text).status_code == 202
        assert statuses() == [("test", "queued")]
        assert AuditEntry.objects.filter(action="channel.tested", target_name="ops").count() == 2

    def test_its_outcome_is_answered_where_it_is_known_soon(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def delivered(message_id: int) -> Notification:
            deliver_due()
            return Notification.objects.get(pk=message_id)

        monkeypatch.setattr(deliveries, "outcome", delivered)
        _, text = token_with("alerts.manage")
        away = channel(f"json://127.0.0.1:{free_port()}/", name="away")
        refused = self.post(client, away.pk, text)
        assert (refused.status_code, refused.json()["detail"]) == (502, "connection refused")
        shown = client.get(f"/api/v1/alert-channels/{away.pk}", headers={"Authorization": f"Bearer {text}"})
        assert shown.json()["last_error"] == "connection refused"
        client.force_login(user_with("alerts.manage", "fleet.read"))
        assert b"connection refused" in client.get("/alerts/channels/").content
        with WebhookReceiver() as receiver:
            there = channel(receiver.url.replace("http", "json"), name="there")
            assert self.post(client, there.pk, text).status_code == 204
            answer = client.post(f"/alerts/channels/{there.pk}/test/", follow=True)
            assert b"The test was sent to there." in answer.content
            assert len(receiver.received()) == 2

    def test_few_wait_at_a_time(self) -> None:
        made = channel("json://192.0.2.1/")
        message_id = services.request_test(actor=SYSTEM, channel_id=made.pk)
        assert deliveries.outcome(message_id, seconds=0) is None
        with deliveries._waiting, deliveries._waiting:
            assert deliveries.outcome(message_id, seconds=60) is None
