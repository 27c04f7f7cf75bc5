"""The agents' documents: their shape, and the strict and quick reading of them.

msgspec decodes and checks types and bounds in one step, but takes the last of duplicate keys and skips what it
doesn't know unread. So a document is taken as it is only if encoding the decoded value gives the same again, but for
blanks and other ways to write a number or a time: then there was no duplicate, no unknown key and no depth beyond the
known shape, and the texts need one search for what must not be in them. What an agent may leave out is UNSET and so is
left out again. Everything else (escapes, unknown keys, other orders of keys) is read once more by `strictjson`, which is
slow and looks at everything. Agents send the quick form.
"""

import datetime
import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dockmesh.core import strictjson
from dockmesh.core.errors import DomainError, InvalidInput, Unprocessable

MAX_CONTAINERS = 5000
MAX_STACKS = 500
MAX_RTTS = 1000
MAX_IMAGES = 200
MAX_VOLUMES = 5000
MAX_TEXT_BYTES = 1024
MAX_LOG_PIECE = 512 * 1024
LONGEST_RTT_SECONDS = 86_400.0

T = TypeVar("T")
Text = Annotated[str, Meta(max_length=MAX_TEXT_BYTES)]
Short = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Total = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0.0, le=LONGEST_RTT_SECONDS)]
Moment = Annotated[datetime.datetime, Meta(tz=True)]
Words = Annotated[tuple[Text, ...], Meta(max_length=64)]
# Of what is used; None is what the kernel does not tell.
Amount = Annotated[int, Meta(ge=0, le=2**63 - 1)] | None
Spent = Annotated[float, Meta(ge=0.0, le=2.0**63)] | None


class Agent(Struct, frozen=True):
    """The agent itself."""

    version: Short = ""
    capabilities: Words | UnsetType = UNSET
    repositories: Words | UnsetType = UNSET
    # Of the programs that it calls: empty where there is none, absent where it does not say.
    compose_version: Short | UnsetType = UNSET
    restic_version: Short | UnsetType = UNSET
    # It was started so that it carries out nothing.
    is_monitor_only: bool | UnsetType = UNSET
    # The beginning of the SHA-256 of the file that it runs from; why it can't replace that file, where it can't.
    build: Short | UnsetType = UNSET
    cannot_update: Text | UnsetType = UNSET


class Docker(Struct, frozen=True):
    """The Docker Engine as the agent finds it."""

    reachable: bool
    version: Short = ""
    error: Annotated[str, Meta(max_length=1000)] = ""


class System(Struct, frozen=True):
    """The machine."""

    os: Short = ""
    arch: Short = ""
    kernel: Annotated[str, Meta(max_length=200)] = ""
    cpus: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    memory_bytes: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class Counts(Struct, frozen=True):
    """What an agent has counted of a container's name since the beginning of `epoch`, which has a random name."""

    epoch: Annotated[str, Meta(min_length=1, max_length=32)]
    restarts: Total
    successes: Total
    errors: Total
    oom_kills: Total


class LogPiece(Struct, frozen=True):
    """Some lines of a container's log; numbers begin at 0."""

    number: Count
    text: Annotated[str, Meta(max_length=MAX_LOG_PIECE)]


class ContainerEntry(Struct, frozen=True, kw_only=True, rename={"is_oom_killed": "oom_killed"}):
    """One container of the inventory. What agents of earlier versions don't say is UNSET: not known."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Text
    image: Text
    # What the image was when the container was made, by the Engine's own id of it.
    image_digest: Annotated[str, Meta(max_length=128)] | UnsetType | None = UNSET
    state: Literal["created", "running", "paused", "restarting", "removing", "exited", "dead", "unknown"]
    health: Literal["", "none", "starting", "healthy", "unhealthy"] | None = ""
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = 0
    is_oom_killed: bool = False
    restart_count: Count = 0
    restart_policy: Short | UnsetType | None = UNSET
    # Of `docker compose run`.
    is_oneoff: bool | UnsetType = UNSET
    stop_signal: Short | UnsetType | None = UNSET
    # Why Docker could not start it.
    error: Text | UnsetType | None = UNSET
    stack: Text | None = ""
    service: Text | None = ""
    created_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | UnsetType | None = UNSET
    counts: Counts | UnsetType = UNSET


class Inventory(Struct, frozen=True):
    """The containers and the agent's digest of them; without containers, those that the digest stands for."""

    digest: Annotated[str, Meta(min_length=1, max_length=80)]
    containers: list[ContainerEntry] | UnsetType = UNSET


class Progress(Struct, frozen=True):
    """What a running command has written since the last accepted heartbeat."""

    # The number is that of an agent of before the UUIDs.
    command_id: uuid.UUID | Annotated[int, Meta(ge=1, le=2**63 - 1)]
    output: Annotated[str, Meta(max_length=65_536)] = ""
    elapsed_seconds: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0


class ImageCheck(Struct, frozen=True, kw_only=True):
    """What the registry has of an image's name; `is_update_available` is None where it could not be asked."""

    image: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_BYTES)]
    is_update_available: bool | None = None
    checked_at: Moment
    error: Text = ""


class MachineUsage(Struct, frozen=True, kw_only=True):
    """What the machine as a whole uses; `cpu_seconds` since it was started."""

    cpu_seconds: Spent = None
    memory_available_bytes: Amount = None
    load1: Spent = None
    docker_root_bytes: Amount = None
    docker_root_free_bytes: Amount = None


class ContainerUsage(Struct, frozen=True, array_like=True, gc=False):
    """What one container uses: counters since it was started, and what it holds now."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    cpu_user_seconds: Spent
    cpu_system_seconds: Spent
    cpu_throttled_seconds: Spent
    memory_working_set_bytes: Amount
    memory_limit_bytes: Amount
    network_receive_bytes: Amount
    network_transmit_bytes: Amount
    network_receive_errors: Amount
    network_transmit_errors: Amount
    block_read_bytes: Amount
    block_written_bytes: Amount
    pids: Amount


class DiskUsage(Struct, frozen=True, kw_only=True):
    """What Docker keeps on disk: of each kind the bytes and those that can be had back, and the size of each volume."""

    images: tuple[Amount, Amount] = (None, None)
    containers: tuple[Amount, Amount] = (None, None)
    volumes: tuple[Amount, Amount] = (None, None)
    build_cache: tuple[Amount, Amount] = (None, None)
    each_volume: Annotated[dict[Text, Amount], Meta(max_length=MAX_VOLUMES)] | UnsetType = UNSET


class Usage(Struct, frozen=True, kw_only=True):
    """What is used, of the containers of the inventory; the disk only where it was measured anew."""

    host: MachineUsage = MachineUsage()
    containers: Annotated[list[ContainerUsage], Meta(max_length=MAX_CONTAINERS)] = []
    disk: DiskUsage | UnsetType | None = UNSET


class Heartbeat(Struct, frozen=True, kw_only=True):
    """Contract section 7. `inventory` is None where the agent could not read it."""

    protocol: Literal[1]
    boot_id: Annotated[str, Meta(min_length=1, max_length=64)]
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    sent_at: Moment
    agent: Agent = Agent()
    rtt_seconds: Annotated[list[Seconds], Meta(max_length=MAX_RTTS)] = []
    docker: Docker
    system: System = System()
    inventory: Inventory | None = None
    progress: Annotated[list[Progress], Meta(max_length=100)] | UnsetType = UNSET
    # All that are known, where any is new.
    images: Annotated[list[ImageCheck], Meta(max_length=MAX_IMAGES)] | UnsetType = UNSET
    # Not needed, since the token says which host this is; but who names one must name the right one.
    host_id: int | str | UnsetType = UNSET
    host: dict[str, Any] | int | str | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET


class Enrollment(Struct, frozen=True):
    """A new host's first words."""

    hostname: str
    labels: dict[str, str] = {}


class Result(Struct, frozen=True):
    """How a command ended."""

    result: Literal["success", "failure"]
    duration_seconds: Annotated[float, Meta(ge=0.0, le=1e9)]
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**32 - 1)] | None = None
    output: Annotated[str, Meta(max_length=2**20)] = ""
    error: Annotated[str, Meta(max_length=8192)] = ""


_heartbeat_decoder = msgspec.json.Decoder(Heartbeat)
_encode = msgspec.json.Encoder().encode

# The control characters that JSON itself lets through.
_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


def read_heartbeat(raw: bytes) -> Heartbeat:
    """The heartbeat in `raw`; raises `InvalidInput` naming the field, `Unprocessable` for too many containers."""
    heartbeat = _read_plain(raw)
    if heartbeat is None:
        _read_slowly(raw)
        heartbeat = _typed(raw, _heartbeat_decoder)
        _check_inventory(heartbeat.inventory, is_ascii=False)
        _check_images(heartbeat)
        _check_usage(heartbeat)
    return heartbeat


def read_plain_heartbeat(raw: bytes) -> Heartbeat | None:
    """The heartbeat in `raw` if it is right and has the quick form; None for what needs another look."""
    try:
        return _read_plain(raw)
    except DomainError:
        return None


def _read_plain(raw: bytes) -> Heartbeat | None:
    try:
        heartbeat = _heartbeat_decoder.decode(raw)
        is_plain = _is_free_of_doubt(raw) and heartbeat.host is UNSET and _is_same(_encode(heartbeat), raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not is_plain:
        return None
    _check_inventory(heartbeat.inventory, is_ascii=raw.isascii())
    _check_images(heartbeat)
    _check_usage(heartbeat)
    return heartbeat


def _is_free_of_doubt(raw: bytes) -> bool:
    """No escape, which may hide anything, and no control character. Looks for single bytes where it can: a
    regular expression takes as long as all the rest together."""
    if b"\\" in raw or b"\x7f" in raw:
        return False
    return raw.isascii() or _CONTROLS.search(raw) is None


_BLANKS = b" \t\r\n"
_NUMBER = re.compile(rb"-?[0-9][0-9.eE+-]{0,39}")
_TIME = re.compile(rb"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _is_same(encoded: bytes, raw: bytes) -> bool:
    """Whether `raw`, which has no escapes, is what `encoded` is, but for blanks and for how numbers and times are written.

    Every other piece between quotation marks is a text or a key. The same keys and marks in the same order mean that
    each number and each time is that which was decoded.
    """
    if encoded == raw:
        return True
    ours, theirs = encoded.split(b'"'), raw.split(b'"')
    if len(ours) != len(theirs):
        return False
    if any(
        our != their and not (_TIME.fullmatch(our) and _TIME.fullmatch(their))
        for our, their in zip(ours[1::2], theirs[1::2], strict=True)
    ):
        return False
    marks = [b'"'.join(pieces[::2]).translate(None, _BLANKS) for pieces in (ours, theirs)]
    return _NUMBER.sub(b"0", marks[0]) == _NUMBER.sub(b"0", marks[1])


_enrollment_decoder = msgspec.json.Decoder(Enrollment)
_log_piece_decoder = msgspec.json.Decoder(LogPiece)
_result_decoder = msgspec.json.Decoder(Result)


def read_enrollment(raw: bytes) -> Enrollment:
    """The enrollment in `raw`; names and labels are checked by the service."""
    _object(strictjson.loads(raw, allow_line_ends=False))
    return _typed(raw, _enrollment_decoder)


def read_result(raw: bytes) -> tuple[Result, dict[str, Any]]:
    """A command's result: what all kinds have in common, and the whole document."""
    document = _object(strictjson.loads(raw))
    return _typed(raw, _result_decoder), document


def read_log_piece(raw: bytes) -> LogPiece:
    """Some lines of a log."""
    _object(strictjson.loads(raw))
    return _typed(raw, _log_piece_decoder)


def read_wait(raw: bytes) -> None:
    """The body of a waiting request, which says nothing: empty, or an object. Raises `InvalidInput`."""
    if raw and not isinstance(strictjson.loads(raw), dict):
        raise InvalidInput(strictjson.BODY, "must be a JSON object.")


def _read_slowly(raw: bytes) -> None:
    document = _object(strictjson.loads(raw))
    progress = document.get("progress")
    if isinstance(progress, list):
        # Output of commands has lines; nothing else in a heartbeat has.
        document["progress"] = [
            {key: value for key, value in item.items() if key != "output"} if isinstance(item, dict) else item
            for item in progress
        ]
    strictjson.check_values(document, allow_line_ends=False)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(strictjson.BODY, "must be a JSON object.")
    return value


def _typed(raw: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput(strictjson.BODY, "must be JSON.") from None


_MISSING = re.compile(r"Object missing required field `([^`]+)`")


def _invalid(message: str) -> InvalidInput:
    """msgspec's `what - at `$.path`` as the field and the sentence."""
    what, _, path = message.partition(" - at `")
    field = path.rstrip("`").removeprefix("$").removeprefix(".")
    missing = _MISSING.match(what)
    if missing:
        return InvalidInput(f"{field}.{missing[1]}" if field else missing[1], "is required.")
    return InvalidInput(field or strictjson.BODY, f"{what[0].lower()}{what[1:]}.")


def _check_inventory(inventory: Inventory | None, *, is_ascii: bool) -> None:
    if inventory is None or inventory.containers is UNSET:
        return
    containers = inventory.containers
    if len(containers) > MAX_CONTAINERS:
        raise Unprocessable(
            f"inventory.containers: at most {MAX_CONTAINERS} containers of one host, not {len(containers)}."
        )
    stacks = len({entry.stack for entry in containers if entry.stack})
    if stacks > MAX_STACKS:
        raise Unprocessable(f"inventory.containers: at most {MAX_STACKS} stacks of one host, not {stacks}.")
    if len({entry.id for entry in containers}) != len(containers):
        seen: set[str] = set()
        for index, entry in enumerate(containers):
            if entry.id in seen:
                raise InvalidInput(f"inventory.containers[{index}].id", "is there twice.")
            seen.add(entry.id)
    if not is_ascii:
        _check_bytes(containers)


def _check_images(heartbeat: Heartbeat) -> None:
    if heartbeat.images is UNSET:
        return
    seen: set[str] = set()
    for index, each in enumerate(heartbeat.images):
        field = f"images[{index}]"
        if each.image in seen:
            raise InvalidInput(f"{field}.image", "is there twice.")
        seen.add(each.image)
        for name in ("image", "error"):
            if len(getattr(each, name).encode()) > MAX_TEXT_BYTES:
                raise InvalidInput(f"{field}.{name}", f"must have at most {MAX_TEXT_BYTES} bytes.")


def _check_usage(heartbeat: Heartbeat) -> None:
    usage, inventory = heartbeat.usage, heartbeat.inventory
    if not isinstance(usage, Usage):
        return
    if len({each.id for each in usage.containers}) != len(usage.containers):
        seen: set[str] = set()
        for index, each in enumerate(usage.containers):
            if each.id in seen:
                raise InvalidInput(f"usage.containers[{index}][0]", "is there twice.")
            seen.add(each.id)
    if inventory is not None and inventory.containers is not UNSET:
        check_usage_count(usage, len(inventory.containers))
    if isinstance(usage.disk, DiskUsage) and usage.disk.each_volume is not UNSET:
        for name in usage.disk.each_volume:
            if not name.isascii() and len(name.encode()) > MAX_TEXT_BYTES:
                raise InvalidInput("usage.disk.each_volume", "must have names of at most 1 KiB.")


def check_usage_count(usage: Usage, containers: int) -> None:
    """Raises `InvalidInput` if it tells of more containers than the host has."""
    if len(usage.containers) > containers:
        raise InvalidInput(
            "usage.containers",
            f"must have an entry at most for each container: {len(usage.containers)} of {containers}.",
        )


def _check_bytes(containers: Sequence[ContainerEntry]) -> None:
    """msgspec counts characters; only others than ASCII can still be too many bytes."""
    for index, entry in enumerate(containers):
        for name in ("name", "image", "stack", "service"):
            text = getattr(entry, name)
            if text and not text.isascii() and len(text.encode()) > MAX_TEXT_BYTES:
                raise InvalidInput(f"inventory.containers[{index}].{name}", "must be at most 1 KiB.")
