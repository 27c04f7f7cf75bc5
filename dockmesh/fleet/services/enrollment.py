"""Letting hosts in: one-time tokens, and the exchange of one for an agent's own.

A token is for a new host, or for one that is known already (a renewal): that one then gets a new agent token, the old
one ends, and name, labels and history stay.
"""

import datetime
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from django.db import transaction

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor
from dockmesh.core import clock
from dockmesh.core.errors import InvalidInput, NotFound
from dockmesh.core.text import MAX_NAME, clean_labels, clean_name
from dockmesh.fleet.agents import new_credential
from dockmesh.fleet.commands import lock_host
from dockmesh.fleet.models import EnrollmentToken, HeartbeatState, Host
from tokens import bearer, secret

DEFAULT_LIFETIME = datetime.timedelta(hours=1)
KEPT_EXPIRED = datetime.timedelta(days=7)
LONGEST_LIFETIME = datetime.timedelta(days=30)


class Issued(NamedTuple):
    """A token that was just made; `text` is the only copy of its secret."""

    token: EnrollmentToken
    text: str


@transaction.atomic
def create_enrollment_token(
    *, actor: Actor, lifetime: datetime.timedelta = DEFAULT_LIFETIME, host_id: int | None = None
) -> Issued:
    """A token that lets one host in, once, for at most `lifetime`; and its text, which is stored nowhere.

    That host is a new one, or the one with the id `host_id` with a new agent token. Raises `InvalidInput` for a
    lifetime of less than a second or more than 30 days, and for a host that isn't there.
    """
    host = None if host_id is None else _known(host_id)
    if not datetime.timedelta(seconds=1) <= lifetime <= LONGEST_LIFETIME:
        raise InvalidInput("expires_in_seconds", "must be from 1 second to 30 days.")
    text = secret.generate(secret.Kind.ENROLLMENT)
    digest = secret.digest(text)
    token = EnrollmentToken.objects.create(
        public_id=text.public_id,
        digest=digest.value,
        pepper=digest.pepper,
        created_by=actor.name[:255],
        expires_at=clock.now() + lifetime,
        host=host,
        is_renewal=host is not None,
    )
    audit.record(
        actor=actor,
        action=Action.ENROLLMENT_TOKEN_CREATED,
        target_kind="enrollment_token",
        target_id=token.pk,
        target_name=token.public_id,
        changes={"expires_at": token.expires_at.isoformat()} | ({"host": host.name} if host else {}),
    )
    return Issued(token, str(text))


@transaction.atomic
def delete_enrollment_token(*, actor: Actor, token_id: int) -> None:
    """Forget a token, used or not; one that was not used lets nobody in any more."""
    token = EnrollmentToken.objects.select_for_update().filter(pk=token_id).first()
    if token is None:
        raise NotFound("There is no such enrollment token.")
    token.delete()
    audit.record(
        actor=actor,
        action=Action.ENROLLMENT_TOKEN_DELETED,
        target_kind="enrollment_token",
        target_id=token_id,
        target_name=token.public_id,
        changes={"was_used": token.used_at is not None},
    )


def forget_expired_enrollment_tokens() -> None:
    """The scheduler's job: tokens that let nobody in and will not any more."""
    EnrollmentToken.objects.filter(used_at=None, expires_at__lt=clock.now() - KEPT_EXPIRED).delete()


def note_reached(public_id: str) -> None:
    """Whoever holds the unused token of this id has fetched the agent; only the first time counts.

    The id alone lets nobody in, and who guesses one makes a step of a page tick too early, no more.
    """
    found = EnrollmentToken.objects.filter(public_id=public_id, used_at=None, reached_at=None)
    # Anybody may come here, and on SQLite one who writes nothing would still wait for all who write.
    if found.exists():
        found.update(reached_at=clock.now())


def authenticate_enrollment(header: str | None, *, address: str) -> EnrollmentToken:
    """The unused, unexpired token that the header carries; raises `bearer.Refused`. One query.

    Whether it is still unused is decided by `enroll` alone.
    """
    text = bearer.credential(header, kind=secret.Kind.ENROLLMENT, address=address)
    token = EnrollmentToken.objects.filter(public_id=text.public_id).first()
    is_right = secret.matches(text, secret.Digest(token.digest, token.pepper) if token else None)
    if token is None or not is_right:
        raise bearer.bad_token(bearer.Reason.UNKNOWN, address=address)
    if token.used_at is not None or (token.is_renewal and token.host_id is None):
        raise bearer.bad_token(bearer.Reason.REVOKED, address=address)
    if token.expires_at <= clock.now():
        raise bearer.bad_token(bearer.Reason.EXPIRED, address=address)
    return token


@transaction.atomic
def enroll(
    *, token: EnrollmentToken, hostname: str, labels: Mapping[str, str], address: str
) -> tuple[Host, str]:
    """Make the host and its agent's token; of many at once with one enrollment token, one.

    A name that is taken gets a number (`web`, `web-2`, …). With a renewal the known host gets a new agent's token in
    the place of its old one and is otherwise left as it is. Raises `InvalidInput` for a bad name or label,
    `bearer.Refused` if the token has been used or has expired, or its host was removed, meanwhile.
    """
    name, labels = clean_name("hostname", hostname), clean_labels("labels", labels)
    if token.is_renewal:
        if "simulated" in labels:
            raise InvalidInput("labels", "a simulated host can't take the place of a known one.")
        return _renew(token, name, address)
    now = clock.now()
    _use(token, now, address)
    host, agent_token = _insert(name, labels, address)
    EnrollmentToken.objects.filter(pk=token.pk).update(host=host)
    # Until its first heartbeat the host counts as last seen when it was enrolled.
    HeartbeatState.objects.create(host=host, last_seen_at=now)
    _record(Action.HOST_ENROLLED, host, token, address, {"hostname": name, "labels": labels})
    return host, agent_token


def _use(token: EnrollmentToken, now: datetime.datetime, address: str) -> None:
    """The row's lock makes all others wait; they then find the token used."""
    if not EnrollmentToken.objects.filter(pk=token.pk, used_at=None, expires_at__gt=now).update(used_at=now):
        raise bearer.bad_token(bearer.Reason.REVOKED, address=address)


def _renew(token: EnrollmentToken, hostname: str, address: str) -> tuple[Host, str]:
    """The host is locked before its token, as by whoever removes a host."""
    try:
        state = lock_host(token.host_id or 0)
    except NotFound:
        raise bearer.bad_token(bearer.Reason.REVOKED, address=address) from None
    _use(token, clock.now(), address)
    host = Host.objects.get(pk=state.host_id)
    agent_token = new_credential(host)
    host.save(update_fields=["agent_token_id", "agent_digest", "agent_pepper"])
    _record(Action.HOST_REENROLLED, host, token, address, {"hostname": hostname})
    return host, agent_token


def _known(host_id: int) -> Host:
    """The host, which can't be removed before the transaction ends."""
    try:
        lock_host(host_id)
    except NotFound:
        raise InvalidInput("host", "there is no such host.") from None
    return Host.objects.get(pk=host_id)


def _record(
    action: Action, host: Host, token: EnrollmentToken, address: str, changes: Mapping[str, object]
) -> None:
    audit.record(
        actor=Actor("agent", str(host.pk), host.name, address),
        action=action,
        target_kind="host",
        target_id=host.pk,
        target_name=host.name,
        changes={**changes, "enrollment_token": token.public_id},
    )


def _insert(name: str, labels: Mapping[str, str], address: str) -> tuple[Host, str]:
    """The host under the first name that is free; the unique index decides, so no race can make two alike."""
    for candidate in _names(name):
        if Host.objects.filter(name=candidate).exists():
            continue
        host = Host(name=candidate, labels=dict(labels), address=address)
        agent_token = new_credential(host)
        Host.objects.bulk_create([host], ignore_conflicts=True)
        stored = Host.objects.filter(agent_token_id=host.agent_token_id).first()
        if stored is not None:
            return stored, agent_token
    raise AssertionError("there is always one more name")


def _names(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        suffix = f"-{number}"
        yield name[: MAX_NAME - len(suffix)] + suffix
        number += 1
