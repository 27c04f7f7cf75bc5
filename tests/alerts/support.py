"""Rows that the alert tests look at."""

import datetime
from typing import Any

from dockmesh.alerts import deliveries
from dockmesh.core import clock
from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack
from tokens import secret


def make_host(name: str, *, seen_seconds_ago: float = 0, is_degraded: bool = False, **columns: Any) -> Host:
    token = secret.generate(secret.Kind.AGENT)
    host = Host.objects.create(
        name=name,
        agent_token_id=token.public_id,
        agent_digest=secret.digest(token).value,
        agent_pepper=1,
        **columns,
    )
    seen = clock.now() - datetime.timedelta(seconds=seen_seconds_ago)
    HeartbeatState.objects.create(host=host, last_seen_at=seen, is_degraded=is_degraded)
    return host


def see(host: Host) -> None:
    HeartbeatState.objects.filter(host=host).update(last_seen_at=clock.now())


def make_stack(host: Host, name: str, state: str = "running", **columns: Any) -> Stack:
    return Stack.objects.create(host=host, name=name, state=state, state_changed_at=clock.now(), **columns)


def make_container(host: Host, name: str, **columns: Any) -> Container:
    values: dict[str, Any] = {"state": "running", "image": "nginx:1.27", "changed_at": clock.now()}
    return Container.objects.create(
        host=host, name=name, container_id=f"{name:0<64}"[:64], **(values | columns)
    )


def deliver_due() -> None:
    """What the scheduler's threads do, one channel after the other."""
    for channel_id, _ in deliveries.due_channels():
        deliveries.deliver(channel_id)


def push_to_alertmanagers() -> None:
    """The same for Alertmanagers."""
    for channel_id, _ in deliveries.alertmanagers():
        deliveries.push(channel_id)
