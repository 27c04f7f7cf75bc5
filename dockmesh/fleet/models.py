"""Hosts, stacks, containers, their summaries, enrollment tokens and the agents' commands."""

import datetime
import uuid

from django.db import models
from django.db.models import Q

from dockmesh.fleet.histograms import EMPTY_DEPLOY, EMPTY_RTT
from dockmesh.fleet.states import NO_CONTAINERS, NO_STACKS, ContainerState, StackState


class Host(models.Model):
    """A machine with a Docker Engine and an agent. What changes with every heartbeat is in `HeartbeatState`."""

    name = models.CharField(max_length=200, unique=True)
    labels = models.JSONField(default=dict, blank=True)
    # Where Prometheus finds this host's exporters; a port of None means that there is no such exporter.
    address = models.CharField(max_length=255, blank=True)
    node_exporter_port = models.PositiveIntegerField(null=True, blank=True, default=9100)
    cadvisor_port = models.PositiveIntegerField(null=True, blank=True, default=8080)
    enrolled_at = models.DateTimeField(auto_now_add=True)
    agent_token_id = models.CharField(max_length=12, unique=True, editable=False)
    agent_digest = models.CharField(max_length=64, editable=False)
    agent_pepper = models.PositiveSmallIntegerField(editable=False)
    agent_version = models.CharField(max_length=64, blank=True)
    agent_info = models.JSONField(default=dict, blank=True)
    docker_version = models.CharField(max_length=64, blank=True)
    docker_error = models.CharField(max_length=1000, blank=True)
    os = models.CharField(max_length=64, blank=True)
    arch = models.CharField(max_length=64, blank=True)
    kernel = models.CharField(max_length=200, blank=True)
    cpus = models.PositiveIntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    # The agent's earlier boots, oldest first: a heartbeat of one of them is a replay.
    past_boots = models.JSONField(default=list, editable=False)
    # Summaries, kept by whatever transaction changes what they count; in the order of the states.
    container_counts = models.CharField(max_length=200, default=NO_CONTAINERS, editable=False)
    stack_counts = models.CharField(max_length=200, default=NO_STACKS, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class HeartbeatState(models.Model):
    """The narrow row of a host that every heartbeat writes and every scrape reads."""

    host = models.OneToOneField(
        Host, on_delete=models.CASCADE, primary_key=True, related_name="heartbeat_state"
    )
    last_seen_at = models.DateTimeField()
    boot_id = models.CharField(max_length=64, blank=True)
    sequence = models.BigIntegerField(default=-1)
    # Of the last whole inventory, as the agent calls it; and when that came.
    inventory_digest = models.CharField(max_length=80, blank=True)
    inventory_at = models.DateTimeField(null=True)
    # Of what the heartbeat says beside its inventory: the same digest, the same columns in `Host`.
    facts_digest = models.CharField(max_length=64, blank=True)
    clock_skew_seconds = models.FloatField(default=0.0)
    rtt_counts = models.CharField(max_length=300, default=EMPTY_RTT)
    rtt_sum = models.FloatField(default=0.0)
    # Docker does not answer or the inventory fails, by the last heartbeat.
    is_degraded = models.BooleanField(default=False)
    has_commands = models.BooleanField(default=False)
    # Rises with every change of the host's text on /metrics: of its name, labels, facts, stacks or containers.
    version = models.BigIntegerField(default=1)

    class Meta:
        # The table's first name: a replica of the version before writes it while an upgrade is under way.
        db_table = "fleet_hostpulse"

    def __str__(self) -> str:
        return f"heartbeat state of host {self.pk}"

    @property
    def heard_at(self) -> datetime.datetime | None:
        """When its agent was last heard; None before the first heartbeat, when `last_seen_at` is the enrollment."""
        return self.last_seen_at if self.sequence >= 0 else None


class HostHour(models.Model):
    """The worst that was seen of a host within an hour; see `dockmesh.fleet.hours`."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="hours")
    hour = models.DateTimeField(db_index=True)
    worst = models.CharField(max_length=16)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "hour"], name="host_hour_is_one")]

    def __str__(self) -> str:
        return f"{self.worst} from {self.hour}"


class HostUsage(models.Model):
    """What a host and its containers used by its last heartbeat that told of it; see `ingest.usage`.

    Every heartbeat writes it whole, and a scrape reads it whole: nothing of it is looked for.
    """

    host = models.OneToOneField(Host, on_delete=models.CASCADE, primary_key=True, related_name="usage")
    measured_at = models.DateTimeField()
    # The heartbeat state's, for which the containers' lines were made: with another one a name in them may be another.
    version = models.BigIntegerField()
    # `documents.MachineUsage` as JSON.
    machine = models.TextField()
    # Lines for /metrics, as `metrics` makes and reads them.
    containers = models.BinaryField()
    # When it was told, by the host's clock; how many processors were busy since the time before; and what each container
    # uses, as `figures` has it. Known to the database too: an older replica writes rows without them.
    sent_at = models.DateTimeField(null=True)
    cpu = models.FloatField(null=True)
    figures = models.TextField(default="[]", db_default="[]")
    # `documents.DiskUsage` as JSON, and when it came; empty before the first.
    disk = models.TextField(default="", db_default="")
    disk_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"usage of host {self.pk}"


class Stack(models.Model):
    """A Compose project on one host: discovered from its containers, or managed with its Compose file here."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="stacks")
    name = models.CharField(max_length=1024)
    state = models.CharField(max_length=16, default=StackState.UNKNOWN)
    is_managed = models.BooleanField(default=False)
    is_deploying = models.BooleanField(default=False)
    has_failed_deploy = models.BooleanField(default=False)
    # The last deploy that ended by itself, for /metrics: when, and `success` or `failure`. Known to the database too: an
    # older replica makes stacks without them.
    last_deploy_at = models.DateTimeField(null=True, editable=False)
    last_deploy_result = models.CharField(
        max_length=16, blank=True, default="", db_default="", editable=False
    )
    state_changed_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name", "host_id")
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="stack_is_once_on_a_host")]
        indexes = [
            models.Index("name", name="stack_by_name"),
            models.Index("state", name="stack_by_state"),
        ]

    def __str__(self) -> str:
        return self.name


class StackSeries(models.Model):
    """The deploy histograms of one stack name, wherever it runs. Born with its first stack, gone with its last."""

    name = models.CharField(max_length=1024, unique=True)
    success_counts = models.CharField(max_length=300, default=EMPTY_DEPLOY)
    success_sum = models.FloatField(default=0.0)
    failure_counts = models.CharField(max_length=300, default=EMPTY_DEPLOY)
    failure_sum = models.FloatField(default=0.0)
    # The last deploy of each result, as `dockmesh.fleet.histograms` writes it; empty before the first. Known to the
    # database too: an older replica makes series without them.
    success_exemplar = models.CharField(max_length=100, default="", db_default="")
    failure_exemplar = models.CharField(max_length=100, default="", db_default="")
    version = models.BigIntegerField(default=1)

    def __str__(self) -> str:
        return self.name


class Container(models.Model):
    """A container as its host's last inventory had it."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="containers")
    stack = models.ForeignKey(Stack, on_delete=models.SET_NULL, null=True, related_name="containers")
    container_id = models.CharField(max_length=64)
    name = models.CharField(max_length=1024)
    image = models.CharField(max_length=1024)
    service = models.CharField(max_length=1024, blank=True)
    state = models.CharField(max_length=16, default=ContainerState.UNKNOWN)
    health = models.CharField(max_length=16, blank=True)
    exit_code = models.IntegerField(default=0)
    is_oom_killed = models.BooleanField(default=False)
    restart_count = models.PositiveIntegerField(default=0)
    # From here on empty where the agent is of a version that doesn't say it. Known to the database too: an older
    # replica writes containers without them.
    restart_policy = models.CharField(max_length=64, blank=True, default="", db_default="")
    is_oneoff = models.BooleanField(default=False, db_default=False)
    stop_signal = models.CharField(max_length=64, blank=True, default="", db_default="")
    error = models.CharField(max_length=1024, blank=True, default="", db_default="")
    image_digest = models.CharField(max_length=128, blank=True, default="", db_default="")
    created_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField()
    # Of the inventory's entry: what a heartbeat compares instead of all the columns.
    fingerprint = models.CharField(max_length=32, default="", editable=False)

    class Meta:
        ordering = ("name", "id")
        constraints = [
            models.UniqueConstraint(fields=["host", "container_id"], name="container_is_once_on_a_host")
        ]
        # None by state: it would be written with every change of a container, and what it finds is a scan away.
        indexes = [
            # The list of all containers, page by page.
            models.Index("name", name="container_by_name"),
        ]

    def __str__(self) -> str:
        return self.name


class ContainerCounts(models.Model):
    """What has been counted of the containers of one name on a host; it outlives them, see `ingest.counts`."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=1024)
    restarts = models.BigIntegerField(default=0)
    successes = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0)
    oom_kills = models.BigIntegerField(default=0)
    # What the agent last said that it had counted, in the order of the columns, and since which beginning.
    epoch = models.CharField(max_length=32, blank=True)
    seen = models.CharField(max_length=100, default="0,0,0,0")
    # When it was first found that no container has the name any more. An upsert writes rows without it.
    gone_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="counts_are_once_for_a_name")]

    def __str__(self) -> str:
        return f"counts of {self.name}"


class ImageCheck(models.Model):
    """What the registry has of the name of an image that a host uses, by the host's agent."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="image_checks")
    image = models.CharField(max_length=1024)
    # None where the registry could not be asked; `error` says why.
    is_update_available = models.BooleanField(null=True)
    # By the agent's clock.
    checked_at = models.DateTimeField()
    error = models.CharField(max_length=1024, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "image"], name="image_is_checked_once_a_host")]

    def __str__(self) -> str:
        return f"check of {self.image}"


class ListeningSpan(models.Model):
    """A time in which one process of the server listened; see `dockmesh.fleet.listening`."""

    since = models.DateTimeField()
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.since} to {self.until}"


class EnrollmentToken(models.Model):
    """Lets one host in, once: a new one, or a known one that gets a new agent token. Only the digest is stored."""

    public_id = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    pepper = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=255)
    expires_at = models.DateTimeField()
    # When its host first fetched the agent with it.
    reached_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)
    # The one that it let in; of a renewal, from the start, the one that it is for. A renewal whose host was removed
    # lets nobody in, which is why it is not told by `host` alone.
    host = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, related_name="+")
    # Known to the database too: an older replica makes tokens without it.
    is_renewal = models.BooleanField(default=False, db_default=False)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"enrollment token {self.public_id}"


class AgentRollout(models.Model):
    """Agents that are brought up to date together; see `services.agent_updates`."""

    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=255)

    def __str__(self) -> str:
        return f"rollout {self.pk}"


class AgentUpdate(models.Model):
    """One host's agent within a rollout."""

    class Status(models.TextChoices):
        """How far it is. *Stopped* never began, since another one of the rollout had failed."""

        WAITING = "waiting"
        RUNNING = "running"
        SUCCESS = "success"
        FAILURE = "failure"
        STOPPED = "stopped"

    rollout = models.ForeignKey(AgentRollout, on_delete=models.CASCADE, related_name="updates")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="agent_updates")
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.WAITING)
    version_before = models.CharField(max_length=64, blank=True)
    error = models.TextField(blank=True)
    # The command's own row is forgotten sooner than this one.
    command_id = models.BigIntegerField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        indexes = [
            # Read with each result of an agent.
            models.Index("command_id", name="agent_update_by_command"),
            # Read by the scheduler every few seconds, and before an update is asked for.
            models.Index("status", name="agent_update_by_status"),
        ]

    def __str__(self) -> str:
        return f"update of the agent of host {self.host_id}"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status in (self.Status.WAITING, self.Status.RUNNING)


class AgentCommand(models.Model):
    """Work for one agent: handed out in a heartbeat's answer, carried out at most once, reported once.

    Its primary key stays in this database, which may be put back to an older copy and then counts on from there.
    The agents know it by `uuid`, or, those of before the UUIDs, by `number`.
    """

    class Status(models.TextChoices):
        """Where the command is."""

        QUEUED = "queued"
        HANDED_OUT = "handed_out"
        DONE = "done"
        EXPIRED = "expired"
        CANCELLED = "cancelled"

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    number = models.BigIntegerField(unique=True, editable=False)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="commands")
    kind = models.CharField(max_length=32)
    payload = models.JSONField(default=dict)
    # One command at a time of the same lock, in the order of their ids.
    lock = models.CharField(max_length=1100, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    timeout_seconds = models.PositiveIntegerField(default=1800)
    created_at = models.DateTimeField(auto_now_add=True)
    handed_out_at = models.DateTimeField(null=True)
    # The agent has said that it has the command: from then on it is not offered again.
    acknowledged_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    result_digest = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ("id",)
        indexes = [
            # The heartbeat's look for work, and the scheduler's look for what outlived its time.
            models.Index("host", "id", name="command_open", condition=Q(status__in=["queued", "handed_out"])),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class ContainerDetails(models.Model):
    """What an agent last told of one container when somebody looked at it, see `services.details`.

    Without a foreign key to the container: an inventory must not become dearer by it.
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    container_id = models.CharField(max_length=64)
    found = models.JSONField(default=dict)
    told_at = models.DateTimeField()
    # Why the last asking brought nothing new.
    error = models.CharField(max_length=1000, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "container_id"], name="details_are_once_for_a_container")
        ]

    def __str__(self) -> str:
        return f"details of {self.container_id[:12]}"


class LogSession(models.Model):
    """Somebody reads a container's log: from when it is asked for until the last of it is fetched, or nobody reads on."""

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    container_name = models.CharField(max_length=1024)
    is_following = models.BooleanField(default=False)
    opened_by = models.CharField(max_length=255)
    opened_at = models.DateTimeField()
    # When the reader last asked, and the agent last sent anything, or that there is nothing.
    read_at = models.DateTimeField()
    heard_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=1000, blank=True, default="")
    # Of the pieces that have come.
    pieces = models.PositiveIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"log of {self.container_name}"


class LogPiece(models.Model):
    """Some lines on their way from the agent to the reader, who is perhaps at another replica."""

    session = models.ForeignKey(LogSession, on_delete=models.CASCADE, related_name="+")
    number = models.PositiveIntegerField()
    encrypted_text = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="piece_is_once_in_a_session")
        ]

    def __str__(self) -> str:
        return f"piece {self.number}"
