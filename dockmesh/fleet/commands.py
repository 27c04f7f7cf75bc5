"""Work for the agents: a queue for each host, handed out in the answers to its heartbeats and to its waiting request.

*Never lost*: a command is offered again with every answer until the agent says that it has it, by naming it in
`progress` or by its result. *At most once*: the agent writes a command's id into its journal before it begins
and ignores an id that is there already, so an offer that comes again does no harm; and once the agent has
acknowledged it, it is never offered again. So it takes the loss of both memories to run one twice: an agent's
journal that was put back to before the command, while the server has not heard of it yet or was put back as well.
A command whose agent falls silent, or that outlives its time, expires: its handler is told, a later result is
refused (409).

Server and agent may each have been put back to an older copy. So a command has a random UUID, which no copy counts
up to again. A command that the agent has acknowledged and does not name any more is *asked about*: the agent
answers with its result once more, or with `is_known: false`, and then the command ends here as well.

Of the commands with the same lock only the oldest open one is handed out, and of all at most `MAX_RUNNING` at a
time, which is what an agent carries out side by side: so a command's time begins when it is handed out. Kinds that
somebody waits for before a page run beside those, `MAX_BESIDE` at a time, and what ends another one is never held up.

An agent that waits is handed what is queued, at once (`fetch`), and what it is handed counts like any other offer. What
was handed out already, and perhaps lost on the way, is offered again in the answers to heartbeats alone.

A room that has commands of a kind registers its handlers in `AppConfig.ready()`. Handlers run in the transaction
of the heartbeat, the result or the expiry, with the host's heartbeat state locked. Whoever else locks rows of a host and
calls `enqueue` calls it, or `services.lock_host`, before locking rows of their own: the heartbeat state comes first.
"""

import datetime
import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from dockmesh.core import clock, schedule
from dockmesh.core.errors import Conflict, Forbidden, NotFound
from dockmesh.fleet import listening, sql
from dockmesh.fleet.models import AgentCommand, HeartbeatState

MAX_RUNNING = 4
MAX_BESIDE = 8
CANCEL, CANCEL_TIMEOUT_SECONDS = "cancel", 60
# An agent that was told to stop at the timeout still has to say so.
GRACE = datetime.timedelta(seconds=60)
# A command that nobody fetched for so long, or whose agent is silent for so long, is not waited for.
SILENCE = datetime.timedelta(minutes=10)

# So long a report that is sent again is known to have been taken.
KEPT_FINISHED = datetime.timedelta(days=7)

NO_RESULT = "The agent did not report a result in time."
NOT_FETCHED = "The host did not fetch the command in time."
SILENT = "The host fell silent while the command ran."
NOT_KNOWN = (
    "Not known: the agent does not have this command. Server or agent were restored from an older copy."
)

# A command as the agent names it: by its UUID, or by the number that an agent of before the UUIDs was given.
Key = uuid.UUID | int


@dataclass(frozen=True)
class Command:
    """A command as its handler sees it. `payload` is what was enqueued."""

    id: int
    host_id: int
    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class CommandProgress:
    """What a running command wrote since it was last heard of; seconds since it began."""

    output: str
    elapsed_seconds: float


@dataclass(frozen=True)
class CommandResult:
    """How a command ended. `document` is the whole report, with what only some kinds have."""

    is_success: bool
    duration_seconds: float
    exit_code: int | None
    output: str
    error: str
    document: Mapping[str, Any]

    @property
    def is_known(self) -> bool:
        """Whether the agent has ever had the command; False only of one that was asked about."""
        return self.document.get("is_known") is not False

    @property
    def is_repeated(self) -> bool:
        """Whether the agent was asked for it, and may have reported it before."""
        return self.document.get("is_repeated") is True


@dataclass(frozen=True)
class Work:
    """What an answer hands to the agent, and the commands that it is asked about."""

    offers: Sequence[dict[str, Any]]
    asked: Sequence[uuid.UUID]
    is_any_open: bool


@dataclass(frozen=True)
class Handlers:
    """What a room does with the commands of one kind."""

    on_result: Callable[[Command, CommandResult], None]
    on_timeout: Callable[[Command, str], None]
    on_progress: Callable[[Command, CommandProgress], None] | None
    prepare: Callable[[Command], Mapping[str, Any]] | None
    is_beside: bool


_handlers: dict[str, Handlers] = {}


def register_result_handler(
    kind: str,
    *,
    on_result: Callable[[Command, CommandResult], None],
    on_timeout: Callable[[Command, str], None],
    on_progress: Callable[[Command, CommandProgress], None] | None = None,
    prepare: Callable[[Command], Mapping[str, Any]] | None = None,
    is_beside: bool = False,
) -> None:
    """Say what becomes of commands of this kind.

    `on_result` is called once for each command that is reported, `on_timeout` once (with a sentence for the
    user) for each that expires; never both. `on_progress` is called with each heartbeat that names it.
    `prepare` gives the payload as the agent gets it, at each offer; for what must not lie in the queue open.
    One that `is_beside` is carried out at once, whatever else the agent is about.
    """
    _handlers[kind] = Handlers(on_result, on_timeout, on_progress, prepare, is_beside)


def open_with_lock(host_id: int, lock: str) -> AgentCommand | None:
    """The oldest command with that lock that is queued or handed out."""
    return _open().filter(host_id=host_id, lock=lock).order_by("id").first()


def count_open(host_id: int, kind: str) -> int:
    """How many of this kind are queued or handed out."""
    return _open().filter(host_id=host_id, kind=kind).count()


def kinds() -> set[str]:
    """All kinds of commands that there are."""
    return {*_handlers, CANCEL}


def enqueue(
    *, host_id: int, kind: str, payload: Mapping[str, Any], lock: str = "", timeout_seconds: int = 1800
) -> int:
    """Queue a command for the host's agent, in the caller's transaction; the command's id.

    `payload` is JSON, and holds what the agent needs; `lock` and `timeout_seconds` are added to it. Raises
    `NotFound` where there is no such host.
    """
    # Locks the heartbeat state as well, so that the flag and the queue agree.
    if not HeartbeatState.objects.filter(host_id=host_id).update(has_commands=True):
        raise NotFound("There is no such host.")
    identity = uuid.uuid4()
    return AgentCommand.objects.create(
        uuid=identity,
        # As random as it gets in what SQLite and PostgreSQL call an integer.
        number=identity.int >> 65,
        host_id=host_id,
        kind=kind,
        payload=dict(payload),
        lock=lock,
        timeout_seconds=timeout_seconds,
    ).pk


def is_known(command_id: int | None) -> bool:
    """Whether there is such a command, open or ended; there is none any more once its host was removed."""
    return AgentCommand.objects.filter(pk=command_id or 0).exists()


def cancel(command_id: int) -> bool:
    """Take a command back that was not handed out yet; whether it was. No handler is called."""
    cancelled = AgentCommand.objects.filter(pk=command_id, status=AgentCommand.Status.QUEUED).update(
        status=AgentCommand.Status.CANCELLED, finished_at=clock.now()
    )
    return bool(cancelled)


def ask_to_end(*, host_id: int, command_id: int) -> None:
    """Have the agent end a command that it was handed: not begin it, or break it off in an orderly way.

    How it ended is reported like any other end; it may have been quicker.
    """
    found = AgentCommand.objects.filter(pk=command_id).values_list("uuid", flat=True).first()
    enqueue(
        host_id=host_id,
        kind=CANCEL,
        payload={"command": str(found or "")},
        timeout_seconds=CANCEL_TIMEOUT_SECONDS,
    )


def fetch(*, host_id: int, is_numbered: bool = False) -> Sequence[dict[str, Any]]:
    """Hand out what is queued for the host and may be carried out now, to its agent that waits for it.

    Raises `NotFound` where there is no such host.
    """
    with transaction.atomic():
        lock_host(host_id)
        return hand_out(host_id, now=clock.now(), is_numbered=is_numbered, is_new_only=True).offers


# The hosts that `fetch` would hand something; a scan of the open commands, of which there are few.
_WITH_NEWS = """
SELECT DISTINCT c.host_id FROM fleet_agentcommand c
 WHERE c.status IN ('queued', 'handed_out') AND c.status = 'queued'
   AND (c.lock = '' OR NOT EXISTS (
        SELECT 1 FROM fleet_agentcommand o
         WHERE o.host_id = c.host_id AND o.id < c.id AND o.lock = c.lock AND o.status IN ('queued', 'handed_out')))
   AND (c.kind = %s OR {most} > (
        SELECT count(*) FROM fleet_agentcommand o
         WHERE o.host_id = c.host_id AND o.status IN ('queued', 'handed_out') AND o.status = 'handed_out'
           AND o.kind <> %s AND {of_o} = {of_c}))
"""


def hosts_with_news() -> set[int]:
    """The hosts for which `fetch` has something; one query, which costs as much as there are open commands."""
    beside = [kind for kind, handlers in _handlers.items() if handlers.is_beside] or [""]
    is_beside = f"CASE WHEN {{}}.kind IN ({sql.placeholders(len(beside))}) THEN 1 ELSE 0 END"
    of_c, of_o = is_beside.format("c"), is_beside.format("o")
    statement = _WITH_NEWS.format(
        most=f"CASE WHEN {of_c} = 1 THEN {MAX_BESIDE} ELSE {MAX_RUNNING} END", of_o=of_o, of_c=of_c
    )
    rows = sql.fetch(statement, [CANCEL, *beside, CANCEL, *beside, *beside])
    return {row[0] for row in rows}


def hand_out(
    host_id: int,
    *,
    now: datetime.datetime,
    named: Collection[Key] = (),
    is_numbered: bool = False,
    is_new_only: bool = False,
) -> Work:
    """What this answer hands out; the caller holds the heartbeat state's lock.

    `named` are the commands that the agent says it has; an agent for which commands `is_numbered` gets numbers. With
    `is_new_only` what was handed out before is not offered again.
    """
    rows = list(_open().filter(host_id=host_id).order_by("id"))
    offered: list[AgentCommand] = []
    asked: list[uuid.UUID] = []
    held: set[str] = set()
    free = {False: MAX_RUNNING, True: MAX_BESIDE}  # by whether the kind runs beside the others
    for row in rows:
        if row.status == AgentCommand.Status.HANDED_OUT and row.kind != CANCEL:
            free[_is_beside(row.kind)] -= 1
    for row in rows:
        if row.lock and row.lock in held:
            continue
        # What ends another one doesn't wait until others have ended.
        if row.status == AgentCommand.Status.QUEUED and row.kind != CANCEL:
            if free[_is_beside(row.kind)] <= 0:
                continue
            free[_is_beside(row.kind)] -= 1
        if row.lock:
            held.add(row.lock)
        if row.acknowledged_at is None:
            offered.append(row)
        elif row.uuid not in named:
            asked.append(row.uuid)
    fresh = [row.pk for row in offered if row.status == AgentCommand.Status.QUEUED]
    if fresh:
        AgentCommand.objects.filter(pk__in=fresh).update(
            status=AgentCommand.Status.HANDED_OUT, handed_out_at=now
        )
    if is_new_only:
        offered = [row for row in offered if row.status == AgentCommand.Status.QUEUED]
    return Work([_offer(row, is_numbered) for row in offered], () if is_numbered else asked, bool(rows))


def note_progress(host_id: int, reports: Sequence[tuple[Key, CommandProgress]]) -> None:
    """The agent has these commands; tell their handlers. Ids that are not this host's are left alone."""
    running = AgentCommand.objects.filter(
        _named([key for key, _ in reports]), host_id=host_id, status=AgentCommand.Status.HANDED_OUT
    )
    rows: dict[Key, AgentCommand] = {}
    for row in running:
        rows[row.uuid] = rows[row.number] = row
    fresh = {row.pk for row in rows.values() if row.acknowledged_at is None}
    if fresh:
        AgentCommand.objects.filter(pk__in=fresh).update(acknowledged_at=clock.now())
    for key, progress in reports:
        known = rows.get(key)
        handlers = _handlers.get(known.kind) if known else None
        if known and handlers and handlers.on_progress:
            handlers.on_progress(_command(known), progress)


@transaction.atomic
def finish(*, host_id: int, key: Key, result: CommandResult) -> bool:
    """Take an agent's report; False if this very report was taken before.

    Raises `NotFound` for an unknown command, `Forbidden` for another host's, `Conflict` where another result is
    known, or the command was cancelled or has expired.
    """
    lock_host(host_id)
    row = AgentCommand.objects.select_for_update().filter(_named([key])).first()
    if row is None:
        raise NotFound("There is no such command.")
    if row.host_id != host_id:
        raise Forbidden("The command is another host's.")
    digest = _digest(result.document)
    if row.result_digest == digest:
        return False
    if row.status != AgentCommand.Status.HANDED_OUT:
        if result.is_repeated:
            return False  # It crossed the report that it repeats.
        raise Conflict(f"The command is {row.status.replace('_', ' ')}: no other result is taken.")
    row.status = AgentCommand.Status.DONE if result.is_known else AgentCommand.Status.EXPIRED
    row.finished_at = clock.now()
    # The output is the handler's to keep.
    row.result = {key: value for key, value in result.document.items() if key not in ("output", "found")}
    row.result_digest = digest
    row.save()
    _settle(host_id)
    handlers = _handlers.get(row.kind)
    if handlers and result.is_known:
        handlers.on_result(_command(row), result)
    elif handlers:
        handlers.on_timeout(_command(row), NOT_KNOWN)
    return True


def expire_overdue() -> None:
    """The scheduler's job: end what outlived its time or whose host is silent, both over time in which a server
    listened."""
    listened = listening.record(clock.now())
    silent_before = listened.before(SILENCE.total_seconds())

    def expire_if_overdue(row: AgentCommand) -> None:
        is_silent = row.host.heartbeat_state.last_seen_at < silent_before
        reason = None
        if row.handed_out_at is None:
            if is_silent and row.created_at < silent_before:
                reason = NOT_FETCHED
        elif row.handed_out_at < listened.before(row.timeout_seconds + GRACE.total_seconds()):
            reason = NO_RESULT
        elif is_silent and row.handed_out_at < silent_before:
            reason = SILENT
        if reason:
            _expire(row.pk, row.host_id, reason)

    rows = _open().select_related("host__heartbeat_state").defer("payload")
    schedule.one_by_one(rows, expire_if_overdue, what="The expiry of the command")


def end_all(reason: str) -> None:
    """End every command that is queued or handed out; their handlers are told the reason."""
    for command_id, host_id in list(_open().values_list("pk", "host_id")):
        _expire(command_id, host_id, reason)


def forget_finished() -> None:
    """The scheduler's job: commands that ended long ago; what matters of them their handlers have kept."""
    AgentCommand.objects.filter(finished_at__lt=clock.now() - KEPT_FINISHED).delete()


@transaction.atomic
def _expire(command_id: int, host_id: int, reason: str) -> None:
    lock_host(host_id)
    row = _open().select_for_update().filter(pk=command_id).first()
    if row is None:
        return
    row.status = AgentCommand.Status.EXPIRED
    row.finished_at = clock.now()
    row.save()
    _settle(host_id)
    handlers = _handlers.get(row.kind)
    if handlers:
        handlers.on_timeout(_command(row), reason)


def lock_host(host_id: int) -> HeartbeatState:
    """Lock the host against every other writer, as the first lock of a transaction; raises `NotFound`."""
    state = HeartbeatState.objects.select_for_update().filter(host_id=host_id).first()
    if state is None:
        raise NotFound("There is no such host.")
    return state


def _is_beside(kind: str) -> bool:
    handlers = _handlers.get(kind)
    return handlers is not None and handlers.is_beside


def _settle(host_id: int) -> None:
    """The flag, after a command ended."""
    HeartbeatState.objects.filter(host_id=host_id).update(
        has_commands=_open().filter(host_id=host_id).exists()
    )


def _open() -> QuerySet[AgentCommand]:
    return AgentCommand.objects.filter(
        status__in=[AgentCommand.Status.QUEUED, AgentCommand.Status.HANDED_OUT]
    )


def _named(keys: Sequence[Key]) -> Q:
    return Q(uuid__in=[key for key in keys if isinstance(key, uuid.UUID)]) | Q(
        number__in=[key for key in keys if isinstance(key, int)]
    )


def _offer(row: AgentCommand, is_numbered: bool) -> dict[str, Any]:
    handlers = _handlers.get(row.kind)
    own = handlers.prepare(_command(row)) if handlers and handlers.prepare else row.payload
    payload = {**own, "lock": row.lock, "timeout_seconds": row.timeout_seconds}
    return {"id": row.number if is_numbered else row.uuid, "kind": row.kind, "payload": payload}


def _command(row: AgentCommand) -> Command:
    return Command(row.pk, row.host_id, row.kind, row.payload)


def _digest(document: Mapping[str, Any]) -> str:
    """Of the report itself, however its keys were ordered on the way."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
