"""Changing and removing hosts."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import F

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor
from dockmesh.core.errors import Conflict, InvalidInput
from dockmesh.core.text import clean_labels, clean_name
from dockmesh.fleet.commands import lock_host
from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack
from dockmesh.fleet.services.stacks import drop_orphaned_series, lock_series

ADDRESS_TEXT = re.compile(r"[0-9A-Za-z_.:%-]{2,64}\Z", re.ASCII)
HOST_NAME = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_.-]{0,253}[0-9A-Za-z.])?\Z", re.ASCII)


@transaction.atomic
def change_host(*, actor: Actor, host_id: int, **changes: Any) -> Host:
    """Change any of `name`, `labels` (all of them), `address`, `node_exporter_port`, `cadvisor_port`.

    Raises `NotFound`, `InvalidInput`, or `Conflict` for a name that another host has.
    """
    state = lock_host(host_id)
    host = Host.objects.get(pk=host_id)
    cleaned = {field: _CLEANERS[field](field, value) for field, value in changes.items()}
    changed = {field: value for field, value in cleaned.items() if getattr(host, field) != value}
    if not changed:
        return host
    if "name" in changed and Host.objects.filter(name=changed["name"]).exclude(pk=host_id).exists():
        raise Conflict("Another host has this name.", errors={"name": ["Another host has this name."]})
    before = {field: getattr(host, field) for field in changed}
    for field, value in changed.items():
        setattr(host, field, value)
    host.save(update_fields=list(changed))
    if changed.keys() & {"name", "labels"}:
        HeartbeatState.objects.filter(pk=state.pk).update(version=F("version") + 1)
    audit.record(
        actor=actor,
        action=Action.HOST_CHANGED,
        target_kind="host",
        target_id=host_id,
        target_name=host.name,
        changes={field: {"from": before[field], "to": value} for field, value in changed.items()},
    )
    return host


@transaction.atomic
def remove_host(*, actor: Actor, host_id: int) -> None:
    """Forget the host and all that is known of it; its agent's token is worth nothing from now on."""
    lock_host(host_id)
    host = Host.objects.get(pk=host_id)
    names = set(Stack.objects.filter(host_id=host_id).values_list("name", flat=True))
    lock_series(names)
    # Thousands of rows need not become objects to go.
    Container.objects.filter(host_id=host_id).delete()
    host.delete()
    drop_orphaned_series(names)
    audit.record(
        actor=actor,
        action=Action.HOST_REMOVED,
        target_kind="host",
        target_id=host_id,
        target_name=host.name,
        changes={"stacks": len(names)},
    )


def _address(field: str, value: object) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or not (HOST_NAME.match(value) or _is_ip(value)):
        raise InvalidInput(field, "must be a host name or an IP address, without a port.")
    return value


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # What follows the % of an IPv6 address with a zone may be anything to Python.
    return ADDRESS_TEXT.match(text) is not None


def _port(field: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise InvalidInput(field, "must be a port from 1 to 65535, or null for none.")
    return value


_CLEANERS: Mapping[str, Callable[[str, Any], Any]] = {
    "name": clean_name,
    "labels": clean_labels,
    "address": _address,
    "node_exporter_port": _port,
    "cadvisor_port": _port,
}
