"""What many do at once: one deploy, one count, on a database with real transactions."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from dockmesh.audit.models import AuditEntry
from dockmesh.backups import services as backups
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.errors import Conflict
from dockmesh.deploys import services
from dockmesh.deploys.models import Deploy
from dockmesh.fleet import services as fleet
from dockmesh.fleet.models import StackSeries
from tests.deploys.conftest import ANN, COMPOSE
from tests.deploys.support import fetch, progress, report
from tests.fleet.factories import make_host

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(task: Callable[[int], Any], times: int = 8) -> list[Any]:
    """What each of so many threads got: a value, or the error's class."""

    def run(number: int) -> Any:
        try:
            return task(number)
        except Conflict as error:
            return type(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


def test_of_many_requests_at_once_one_deploys_and_its_result_counts_once() -> None:
    host = make_host("alpha")[0]
    stack = services.create_stack(actor=ANN, host_id=host.pk, name="shop", compose_file=COMPOSE)
    got = at_once(lambda _: services.request_deploy(actor=ANN, stack_id=stack.pk).pk)
    assert got.count(Conflict) == 7
    assert Deploy.objects.count() == 1
    [command] = fetch(host)
    assert sorted(at_once(lambda _: report(host, command["id"]))) == [False] * 7 + [True]
    series = StackSeries.objects.get(name="shop")
    assert (series.success_counts.split(",")[-1], series.success_sum) == ("1", 7.0)
    assert AuditEntry.objects.filter(action="deploy.succeeded").count() == 1


def test_deploys_of_many_hosts_share_a_series_and_lose_no_count() -> None:
    hosts = [make_host(f"host-{number}")[0] for number in range(8)]
    stacks = [
        services.create_stack(actor=ANN, host_id=host.pk, name="shop", compose_file=COMPOSE) for host in hosts
    ]

    def deploy(number: int) -> None:
        for _ in range(3):
            services.request_deploy(actor=ANN, stack_id=stacks[number].pk)
            [command] = fetch_alone(hosts[number])
            progress_alone(hosts[number], command["id"])
            report(hosts[number], command["id"], seconds=1.0)

    at_once(deploy)
    series = StackSeries.objects.get(name="shop")
    assert (series.success_counts.split(",")[-1], series.success_sum) == ("24", 24.0)
    assert not Deploy.objects.exclude(status="success").exists()


def test_of_many_requests_at_once_one_backs_up() -> None:
    host = make_host("alpha")[0]
    job = backups.create_job(actor=ANN, host_id=host.pk, name="nightly", stack_name="shop")
    got = at_once(lambda _: backups.run_now(actor=ANN, job_id=job.pk).pk)
    assert got.count(Conflict) == 7
    assert BackupRun.objects.count() == 1


def test_of_many_jobs_of_one_name_one_is_made() -> None:
    host = make_host("alpha")[0]
    got = at_once(
        lambda _: backups.create_job(actor=ANN, host_id=host.pk, name="nightly", stack_name="shop").pk
    )
    assert got.count(Conflict) == 7
    assert BackupJob.objects.count() == 1


def fetch_alone(host: Any) -> list[dict[str, Any]]:
    """As a heartbeat does: in a transaction, with the host locked."""
    with transaction.atomic():
        fleet.lock_host(host.pk)
        return fetch(host)


def progress_alone(host: Any, command_id: uuid.UUID) -> None:
    with transaction.atomic():
        fleet.lock_host(host.pk)
        progress(host, command_id, "working\n")
