"""Adoption: which files a discovered stack is managed with from now on, and where its relative paths lie.

A relative path means something only in the folder that its file was written for. So a file that has one is taken
only with that folder, as a survey found it, or with the folder that the user names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dockmesh.core.errors import Conflict, InvalidInput
from dockmesh.deploys.compose import clean_compose_file, clean_env_file
from dockmesh.deploys.paths import RelativePath, relative_paths, takes_variables
from dockmesh.deploys.places import clean_directory, clean_override_files
from dockmesh.deploys.surveys import Found

NAMED = 20


class SurveyNeeded(Conflict):
    """What a file means can't be told before the host's agent has looked at the stack."""


@dataclass(frozen=True)
class Wish:
    """What the user gave, checked; None is what was left out."""

    compose_file: str | None
    override_files: list[dict[str, str]]
    env_file: str | None
    project_directory: str | None
    accept_changes: bool
    relative: list[RelativePath] | None = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What the stack will be managed with."""

    compose_file: str
    override_files: list[dict[str, str]]
    env_file: str
    project_directory: str
    is_directory_decided: bool


def clean_wish(
    *,
    compose_file: object,
    override_files: object,
    env_file: object,
    project_directory: object,
    accept_changes: bool,
) -> Wish:
    """Raises `InvalidInput` that names the field."""
    overrides = clean_override_files([] if override_files is None else override_files)
    directory = None if project_directory is None else clean_directory(project_directory)
    env_text = None if env_file is None else clean_env_file(env_file)
    if compose_file is None:
        if overrides:
            raise InvalidInput("override_files", "must come with a compose_file.")
        return Wish(None, [], env_text, directory, accept_changes)
    text = clean_compose_file(compose_file)
    relative: list[RelativePath] | None = []
    for each in [text, *(file["content"] for file in overrides)]:
        paths = relative_paths(each)
        relative = None if paths is None or relative is None else [*relative, *paths]
    return Wish(text, overrides, env_text, directory, accept_changes, relative)


def planned(wish: Wish, found: Found | None, *, stack: str, host: str) -> Plan:
    """Raises `SurveyNeeded` where nothing is known of the stack and that matters, `Conflict` where the user must decide."""
    if wish.compose_file is None:
        return _from_host(wish, found, stack=stack, host=host)
    texts = [wish.compose_file, *(file["content"] for file in wish.override_files)]
    needs_env = wish.env_file is None and any(takes_variables(text) for text in texts)
    needs_directory = wish.project_directory is None and wish.relative != []
    if found is None and (needs_env or needs_directory):
        raise SurveyNeeded(_unknown(wish.relative, stack=stack, host=host))
    directory = wish.project_directory
    if directory is None:
        if found is not None and not found.is_directory_visible and wish.relative != []:
            raise Conflict(_unseen(_meanings(wish.relative, found), found, stack=stack, host=host))
        directory = found.project_directory if found is not None and found.is_directory_visible else ""
    env_text = wish.env_file
    if env_text is None:
        env_text = _env_text(found, stack=stack, host=host) if found is not None and needs_env else ""
    return Plan(
        wish.compose_file, wish.override_files, env_text, directory, wish.project_directory is not None
    )


def _from_host(wish: Wish, found: Found | None, *, stack: str, host: str) -> Plan:
    """By the files that the stack was started from, as the agent read them."""
    if found is None:
        raise SurveyNeeded(_unknown([], stack=stack, host=host))
    if not found.is_directory_visible:
        raise Conflict(_unseen(_below(found), found, stack=stack, host=host))
    if not found.config_files:
        raise Conflict(
            f"{stack} was not started from files that its labels name. Give its Compose file: compose_file."
        )
    unread = [f"{file.path} {file.error}" for file in found.config_files if file.content is None]
    if unread:
        raise Conflict(
            f"The files of {stack} can't be read on {host}: {_listed(unread)}. Give them: compose_file."
        )
    env_text = _env_text(found, stack=stack, host=host) if wish.env_file is None else wish.env_file
    if found.compose_error and not wish.accept_changes:
        raise Conflict(
            f"Compose does not take the files of {stack} as they are on {host} now: {found.compose_error}"
        )
    if found.changed_mounts and not wish.accept_changes:
        raise Conflict(
            f"By its files on {host} a deploy of {stack} would mount something else:"
            f" {_listed(list(map(str, found.changed_mounts)))}. Change the files, or adopt it with these"
            " changes: accept_changes."
        )
    first, *others = [(file.path, _cleaned(file.path, file.content)) for file in found.config_files]
    directory = found.project_directory if wish.project_directory is None else wish.project_directory
    return Plan(
        first[1],
        [{"path": path, "content": content} for path, content in others],
        env_text,
        directory,
        wish.project_directory is not None or wish.accept_changes,
    )


def _cleaned(path: str, content: Any) -> str:
    try:
        return clean_compose_file(content, field=path)
    except InvalidInput as error:
        raise Conflict(error.detail) from None


def _env_text(found: Found, *, stack: str, host: str) -> str:
    unread = [f"{file.path} {file.error}" for file in found.env_files if file.content is None]
    if unread:
        raise Conflict(
            f"The env file of {stack} can't be read on {host}: {_listed(unread)}."
            " Give its text as env_file; an empty one for none."
        )
    # Where a name comes again the later file counts, as it does for Compose.
    return clean_env_file("".join(f"{file.content}\n" for file in found.env_files if file.content))


def _unknown(relative: list[RelativePath] | None, *, stack: str, host: str) -> str:
    names = f" What these mean depends on it: {_listed(list(map(str, relative)))}." if relative else ""
    return (
        f"The agent of {host} has not said yet from where {stack} was started.{names}"
        " Ask again in a moment, or say the folder (project_directory) and the env file (env_file, empty for none)."
    )


def _unseen(rows: Sequence[str], found: Found, *, stack: str, host: str) -> str:
    what = (
        f" so these would mean something else: {_listed(rows)}." if rows else " so its files can't be read."
    )
    return (
        f"The agent of {host} can't see {found.project_directory}, where {stack} was started,{what}"
        f" Make the folder visible to the agent under the same path, or decide: give the Compose file, and as"
        f' project_directory "{found.project_directory}" (bind mounts stay as they are; build contexts, env_file,'
        f" extends and include can't be read) or \"\" (the agent's own, empty folder)."
    )


def _meanings(relative: list[RelativePath] | None, found: Found) -> list[str]:
    if relative is None:
        return ["each relative path of the file"]
    return [f"{path}, now in {found.project_directory}" for path in relative]


def _below(found: Found) -> list[str]:
    folder = found.project_directory.rstrip("/") + "/"
    return [
        f"{mount.service}:{mount.target} has {mount.before}"
        for mount in found.mounts
        if mount.before.startswith(folder)
    ]


def _listed(rows: Sequence[str]) -> str:
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"{'; '.join(rows[:NAMED])}{more}"
