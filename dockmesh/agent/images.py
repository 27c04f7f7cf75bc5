"""The images of a deploy: which have to be fetched, what ran in the end, and how to have the very same again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dockmesh.agent.commands import CommandError
from dockmesh.agent.containers import Container, Containers
from dockmesh.agent.document import JSON
from dockmesh.agent.masking import MASK
from dockmesh.agent.output import Output
from dockmesh.agent.text import IMAGE_BYTES, clean

# Fetched only where the host has none, built rather than fetched where there is a `build`.
_IF_MISSING = ("", "missing", "if_not_present")


@dataclass(frozen=True)
class Service:
    """A service of the Compose file, as Compose understands it; no image where it needs none."""

    name: str
    image: str
    is_built: bool
    pull_policy: str
    replicas: int


@dataclass(frozen=True)
class Pin:
    """What ran for a service at an earlier deploy."""

    image: str
    image_id: str
    digest: str

    @property
    def exact(self) -> str:
        """The image by its digest and, for people, with the tag that it had; empty where it has no digest."""
        repository, _, digest = self.digest.partition("@")
        named, _, _ = self.image.partition("@")
        if not digest or MASK in named:
            return self.digest
        return f"{named}@{digest}" if _repository(named) == _repository(repository) else self.digest


def to_fetch(services: Iterable[Service], there: Containers) -> tuple[list[str], list[str]]:
    """(the services whose images are to be pulled, those whose are to be built) before a container is touched.

    As `up` itself would decide, but that what the file says how to build is built: else a changed Dockerfile would
    change nothing. A `pull_policy: missing` leaves it at the image that is there. Raises CommandError where an image
    is missing that may not be pulled.
    """
    pulled, built = [], []
    for each in services:
        if not each.image:
            continue
        is_missing = there.image(each.image) is None
        if each.is_built and (
            each.pull_policy in ("", "build") or (is_missing and each.pull_policy in _IF_MISSING)
        ):
            built.append(each.name)
        elif each.pull_policy == "never":
            if is_missing:
                raise CommandError(
                    f"{each.image} (service {each.name}) is not on this host and its pull_policy is never;"
                    " nothing was changed"
                )
        elif is_missing or each.pull_policy not in (*_IF_MISSING, "build"):
            pulled.append(each.name)
    return pulled, built


def what_runs(
    containers: Iterable[Container], services: Iterable[Service], there: Containers, output: Output
) -> list[JSON]:
    """For each service the image of its first container: as named, its id, and its digest where it has one.

    A value of an env file that is part of a name is masked in it as in `output`.
    """
    named = {each.name: each.image for each in services}
    found: dict[str, JSON] = {}
    for each in containers:
        if each.service not in named or each.service in found:
            continue
        image = named[each.service]
        digest = clean(_digest(image, there.image(each.image_id) or {}), limit=IMAGE_BYTES)
        found[each.service] = {
            "service": each.service,
            "image": clean(output.mask(image), limit=IMAGE_BYTES),
            "image_id": clean(each.image_id),
            "digest": digest if output.mask(digest) == digest else "",
        }
    return list(found.values())


def pins(payload: object) -> dict[str, Pin]:
    """What `what_runs` told of an earlier deploy, by service; raises CommandError where it is something else."""
    if not isinstance(payload, list):
        raise CommandError("payload: images must be a list")
    found = {}
    for item in payload:
        values = (
            [item.get(key) for key in ("service", "image", "image_id", "digest")]
            if isinstance(item, dict)
            else []
        )
        if not values or not all(isinstance(value, str) for value in values):
            raise CommandError("payload: images must have service, image, image_id and digest")
        service, image, image_id, digest = values
        found[str(service)] = Pin(str(image), str(image_id), str(digest))
    return found


def pinned(services: Sequence[Service], wanted: Mapping[str, Pin], there: Containers) -> list[Service]:
    """The services with the images that ran then in the place of what their tags mean now.

    Raises CommandError, which says so, where such an image is gone and can't be fetched again.
    """
    return [_pinned(each, wanted[each.name], there) if each.name in wanted else each for each in services]


def _pinned(service: Service, pin: Pin, there: Containers) -> Service:
    candidates = [name for name in (pin.exact, pin.image_id) if name]
    image = next((name for name in candidates if there.image(name) is not None), pin.exact)
    if not image:
        raise CommandError(
            f"The image that ran for {service.name} ({pin.image}, {pin.image_id[:19]}) is gone from this host, and no"
            " registry has it by digest; nothing was changed"
        )
    return Service(service.name, image, False, "missing", service.replicas)


def override(before: Iterable[Service], after: Iterable[Service]) -> dict[str, Any]:
    """The Compose file that puts the pinned images in the place of the others."""
    changed = [new for old, new in zip(before, after) if old.image != new.image]
    return {"services": {each.name: {"image": each.image} for each in changed}}


def _digest(image: str, inspected: Mapping[str, Any]) -> str:
    """`repository@sha256:…`, of the repository that the image was named by if there are several."""
    known = [str(each) for each in inspected.get("RepoDigests") or [] if "@" in str(each)]
    same = [
        each for each in known if _repository(each.partition("@")[0]) == _repository(image.partition("@")[0])
    ]
    return next(iter([*same, *known]), "")


def _repository(name: str) -> str:
    """An image's name without its tag, and as Docker shortens it."""
    path, colon, tag = name.rpartition(":")
    bare = path if colon and "/" not in tag else name
    return bare.removeprefix("docker.io/").removeprefix("library/")
