"""Names as long as any may be, and what else a row can hold: each periodic job goes through with it, on both databases."""

from __future__ import annotations

import itertools

import pytest
from django.apps import apps
from django.db import models

from dockmesh.alerts import services as alerts
from dockmesh.alerts.models import Alert, AlertRule
from dockmesh.audit.models import AuditEntry
from dockmesh.backups import services as backups
from dockmesh.core.schedule import jobs
from dockmesh.deploys.models import Deploy
from dockmesh.fleet import commands
from dockmesh.fleet.models import Container, Stack
from tests.deploys.conftest import ANN
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host

KIBIBYTES = {"letters": "x" * 1024, "characters of three bytes": "語" * 341 + "x"}


@pytest.mark.django_db
@pytest.mark.parametrize("text", KIBIBYTES.values(), ids=KIBIBYTES)
def test_a_name_of_a_kibibyte_in_any_field_goes_all_the_way(text: str) -> None:
    assert len(text.encode()) == 1024
    agent = AgentClient(*make_host("web"))
    alerts.create_recommended_rules(actor=ANN)
    for rule in AlertRule.objects.all():
        rule.for_seconds = 0
        rule.save()
    long = {"name": text, "image": text, "stack": text, "service": text}
    bad = container("a", **long, state="dead", health="unhealthy", exit_code=1)
    assert agent.beat(heartbeat(1, containers=[bad])).status_code == 200
    stack = Stack.objects.get()
    assert (stack.name, Container.objects.get().service) == (text, text)
    alerts.evaluate()
    fired = Alert.objects.exclude(stack_name="").order_by("id")
    assert {each.stack_name for each in fired} == {text}
    assert {each.status for each in fired} == {Alert.Status.FIRING}
    assert AuditEntry.objects.filter(action="alert.fired").count() == len(fired)

    backups.create_job(actor=ANN, host_id=agent.host.pk, name="nightly", stack_name=text)
    commands.enqueue(host_id=agent.host.pk, kind="none", payload={}, lock=f"stack:{text}")
    Deploy.objects.create(stack=stack, stack_name=text, host_name="web", requested_at=stack.created_at)
    for job in jobs():
        job.run()
    assert Deploy.objects.get().status == Deploy.Status.FAILURE
    assert AuditEntry.objects.get(action="deploy.failed").target_name == text


def test_whoever_repeats_a_name_has_room_for_it() -> None:
    """By the columns that are called alike: `stack_name` for the name of a stack, and so on."""
    sources: dict[str, tuple[type[models.Model], str]] = {
        "stack_name": (Stack, "name"),
        "host_name": (apps.get_model("fleet", "Host"), "name"),
    }
    sources["job_name"] = (apps.get_model("backups", "BackupJob"), "name")
    narrow = []
    for model, (column, (source, name)) in itertools.product(apps.get_models(), sources.items()):
        field = next((each for each in model._meta.fields if each.name == column), None)
        named = source._meta.get_field(name)
        assert isinstance(named, models.Field)
        width = named.max_length
        if isinstance(field, models.CharField) and (field.max_length or 0) < (width or 0):
            narrow.append(f"{model.__name__}.{column}")
    assert narrow == []
