"""How a stack is brought up: nothing goes before the new can stand, and success means that it runs.

With the real Compose, the real Docker Engine and a real registry.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.deploy import Deployer
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import IMAGE, DockerEngine
from tests.integration.registry import image_registry

pytestmark = pytest.mark.integration


def service(name: str, command: str = "sleep 600", *, image: str = IMAGE, more: str = "") -> str:
    return (
        f"  {name}:\n    image: {image}\n    network_mode: none\n    stop_grace_period: 0s\n"
        f"    command: ['sh', '-c', {command!r}]\n{more}"
    )


def stack(*services: str, more: str = "") -> str:
    return "services:\n" + "".join(services) + more


class Place:
    """The agent's deploys of the stack `shop` on a real Engine."""

    def __init__(self, folder: Path, engine: DockerEngine) -> None:
        self.engine = engine
        self.folder = folder
        self._deployer = Deployer(folder / "stacks", docker_host=engine.host)

    def run(self, file: str, operation: str = "up", *, seconds: float = 240, **payload: Any) -> Run:
        """The command as it will be carried out."""
        whole = {"operation": operation, "stack": "shop", "compose_file": file, "env_file": "", **payload}
        run = Run(str(uuid.uuid4()), "deploy", whole, Cancellation())
        run.started = time.monotonic()
        run.deadline = run.started + seconds
        return run

    def deploy(self, file: str, operation: str = "up", **payload: Any) -> tuple[dict[str, Any], str]:
        """(the result, the output)."""
        run = self.run(file, operation, **payload)
        return self._deployer(run), run.output.text()

    def fails(self, file: str, operation: str = "up", **payload: Any) -> tuple[CommandError, str]:
        """(the error, the output)."""
        run = self.run(file, operation, **payload)
        return self.fails_by(run), run.output.text()

    def fails_by(self, run: Run) -> CommandError:
        with pytest.raises(CommandError) as caught:
            self._deployer(run)
        return caught.value

    def ids(self) -> dict[str, str]:
        """The id of each running container, by name."""
        with self.engine.client() as client:
            return {each.name: each.id for each in client.containers.list()}

    def image_of(self, name: str) -> str:
        with self.engine.client() as client:
            return str(client.containers.get(name).attrs["Image"])


@pytest.fixture
def place(tmp_path: Path, docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("dockmesh.agent.containers.SETTLE_SECONDS", 2.0)
    return Place(tmp_path, docker_engine)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with image_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def push(engine: DockerEngine, name: str, word: str) -> str:
    """Make the tag `name` in its registry mean an image of its own; gives the image's id. None is left here."""
    with engine.client() as client:
        made = client.containers.create(IMAGE, ["true"], network_mode="none")
        repository, _, tag = name.rpartition(":")
        image = made.commit(repository, tag, changes=[f"LABEL word={word}"])
        made.remove()
        assert "errorDetail" not in client.images.push(repository, tag)
        client.images.remove(name)
        return str(image.id)


def test_a_wrong_tag_leaves_the_stack_exactly_as_it_ran(place: Place, registry: str) -> None:
    place.deploy(stack(service("web"), service("db")))
    before = place.ids()
    # One service changes, another is new, a third can't be had.
    wrong = stack(
        service("web", "sleep 601"), service("new"), service("db", image=f"{registry}/nothing:no-such-tag")
    )
    error, output = place.fails(wrong)
    assert place.ids() == before
    assert "no-such-tag" in output
    assert "nothing was changed" in str(error)
    assert error.details["is_changed"] is False


def test_what_may_not_be_pulled_and_is_not_there_is_said(place: Place) -> None:
    place.deploy(stack(service("web")))
    before = place.ids()
    error, _ = place.fails(
        stack(service("web", image="nowhere.invalid/none:1", more="    pull_policy: never\n"))
    )
    assert "nowhere.invalid/none:1" in str(error)
    assert place.ids() == before


def test_a_build_that_fails_leaves_the_stack_exactly_as_it_ran(place: Place) -> None:
    place.deploy(stack(service("web")))
    before = place.ids()
    built = "    build: {context: ., dockerfile_inline: 'FROM nowhere.invalid/none:1'}\n"
    error, _ = place.fails(stack(service("web", image="shop-web:built", more=built)))
    assert str(error).startswith("build: ")
    assert place.ids() == before


def test_a_service_that_is_gone_from_the_file_goes_only_when_that_is_confirmed(place: Place) -> None:
    place.deploy(stack(service("web"), service("db")))
    before = place.ids()
    fewer = stack(service("web", "sleep 601"))
    for confirmed in ([], ["web"], ["other"]):
        error, _ = place.fails(fewer, remove=confirmed)
        assert "would remove db (shop-db-1)" in str(error)
        assert error.details["removes"] == [{"service": "db", "containers": ["shop-db-1"], "count": 1}]
        assert place.ids() == before
    result, output = place.deploy(fewer, remove=["db"])
    assert set(place.ids()) == {"shop-web-1"}
    assert "shop-db-1  Removed" in output
    assert result["services"] == ["web"]


def test_a_renamed_service_is_one_that_goes(place: Place) -> None:
    place.deploy(stack(service("web")))
    before = place.ids()
    error, _ = place.fails(stack(service("www")))
    assert "web (shop-web-1)" in str(error)
    assert place.ids() == before


def test_fewer_of_a_service_go_only_when_that_is_confirmed(place: Place) -> None:
    place.deploy(stack(service("web", more="    scale: 3\n")))
    before = place.ids()
    error, _ = place.fails(stack(service("web")))
    assert "2 of web (shop-web-1, shop-web-2, shop-web-3)" in str(error)
    assert place.ids() == before
    place.deploy(stack(service("web")), remove=["web"])
    assert len(place.ids()) == 1


def test_a_service_of_another_profile_and_a_one_off_are_left_alone(place: Place) -> None:
    file = stack(service("web"), service("debug", more="    profiles: [debug]\n"))
    path = place.folder / "compose.yaml"
    path.write_text(file)
    place.engine.compose("shop", path, "--profile", "debug", "up", "--detach")
    place.engine.compose("shop", path, "run", "--detach", "--name", "by-hand", "web", "sleep", "600")
    before = place.ids()
    assert set(before) == {"shop-web-1", "shop-debug-1", "by-hand"}
    result, _ = place.deploy(file)
    assert result["removes"] == []
    assert place.ids() == before


def test_a_preview_tells_and_changes_nothing(place: Place) -> None:
    place.deploy(stack(service("web"), service("db")))
    before = place.ids()
    file = place.folder / "stacks" / "shop" / "compose.yaml"
    kept = file.read_text()
    result, output = place.deploy(stack(service("web", "sleep 601"), service("new")), "preview")
    assert place.ids() == before
    assert file.read_text() == kept
    assert result["removes"] == [{"service": "db", "containers": ["shop-db-1"], "count": 1}]
    assert "DRY-RUN MODE -  Container shop-web-1  Recreate" in output
    assert "DRY-RUN MODE -  Container shop-new-1  Created" in output
    assert "db (shop-db-1)" in output


def test_a_crash_loop_is_a_failure_with_the_last_lines_of_the_log(place: Place) -> None:
    error, output = place.fails(
        stack(service("web", "echo the cause; sleep 0.2; exit 3", more="    restart: always\n"))
    )
    assert "shop-web-1 crashes again and again" in str(error)
    assert "Last lines of shop-web-1:" in output
    assert "  the cause" in output
    assert error.details["is_changed"] is True


def test_a_container_that_exits_soon_is_a_failure_with_its_log(place: Place) -> None:
    error, output = place.fails(
        stack(service("web", "echo no licence for hunter2-hunter2; sleep 1; exit 7")),
        env_file="KEY=hunter2-hunter2\n",
    )
    assert "shop-web-1 exited with 7" in str(error)
    assert "  no licence for ******" in output


def test_a_container_that_stays_unhealthy_is_a_failure(place: Place) -> None:
    sick = "    healthcheck: {test: ['CMD', 'false'], interval: 1s, retries: 2}\n"
    error, output = place.fails(stack(service("web", "echo up; sleep 600", more=sick)))
    assert "shop-web-1 is unhealthy" in str(error)
    assert "  up" in output


def test_what_is_never_healthy_ends_at_the_time_limit(place: Place) -> None:
    slow = "    healthcheck: {test: ['CMD', 'false'], interval: 1s, retries: 1, start_period: 600s}\n"
    error, output = place.fails(stack(service("web", "echo up; sleep 600", more=slow)), seconds=8)
    assert str(error) == "time limit reached: shop-web-1 is starting"
    assert "Last lines of shop-web-1:" in output


def test_a_job_that_ends_well_is_done(place: Place) -> None:
    job = service("job", "echo migrated; exit 0")
    after = "    depends_on: {job: {condition: service_completed_successfully}}\n"
    for file in (stack(job, service("web")), stack(job, service("web", more=after))):
        result, output = place.deploy(file)
        assert set(place.ids()) == {"shop-web-1"}
        assert "shop-job-1 has ended with 0: it is done." in output
        assert {each["service"] for each in result["images"]} == {"job", "web"}


def test_a_job_that_fails_fails_the_deploy(place: Place) -> None:
    job = service("job", "echo no table; exit 1")
    after = "    depends_on: {job: {condition: service_completed_successfully}}\n"
    for file in (stack(job, service("web")), stack(job, service("web", more=after))):
        error, output = place.fails(file)
        assert "shop-job-1 exited with 1" in str(error)
        assert "  no table" in output


def test_the_same_again_changes_nothing_and_need_not_settle_again(place: Place) -> None:
    file = stack(service("web"))
    place.deploy(file)
    before = place.ids()
    result, _ = place.deploy(file)
    assert result["is_changed"] is False
    assert place.ids() == before


def test_a_roll_back_brings_back_the_image_and_not_what_its_tag_means_now(
    place: Place, registry: str
) -> None:
    tag = f"{registry}/app:1"
    file = stack(service("web", image=tag, more="    pull_policy: always\n"))
    first = push(place.engine, tag, "first")
    result, _ = place.deploy(file)
    assert place.image_of("shop-web-1") == first
    [ran] = result["images"]
    assert (ran["service"], ran["image"], ran["image_id"]) == ("web", tag, first)
    assert ran["digest"].startswith(f"{registry}/app@sha256:")
    second = push(place.engine, tag, "second")
    place.deploy(file)
    assert place.image_of("shop-web-1") == second
    place.deploy(file, images=[ran])
    assert place.image_of("shop-web-1") == first
    # Also where the host has it no more: by its digest it is fetched again.
    place.deploy(file)
    with place.engine.client() as client:
        client.images.remove(first, force=True)
    place.deploy(file, images=[ran])
    assert place.image_of("shop-web-1") == first
    # And the next ordinary deploy goes by the tag again.
    place.deploy(file)
    assert place.image_of("shop-web-1") == second


def test_an_image_that_was_built_here_comes_back_by_its_id_or_is_said_to_be_gone(place: Place) -> None:
    def built(word: str) -> str:
        more = f"    build: {{context: ., dockerfile_inline: 'FROM {IMAGE}\\nLABEL word={word}\\n'}}\n"
        return stack(service("web", image="shop-web:built", more=more.replace("'", '"')))

    result, _ = place.deploy(built("first"))
    [ran] = result["images"]
    assert ran["digest"] == ""
    first = place.image_of("shop-web-1")
    changed = built("second").replace("    build:", "    pull_policy: build\n    build:")
    place.deploy(changed)
    assert place.image_of("shop-web-1") != first
    place.deploy(built("first"), images=[ran])
    assert place.image_of("shop-web-1") == first
    place.deploy(changed)
    before = place.ids()
    with place.engine.client() as client:
        client.images.remove(first, force=True)
    error, _ = place.fails(built("first"), images=[ran])
    assert "The image that ran for web (shop-web:built" in str(error)
    assert "is gone from this host" in str(error)
    assert place.ids() == before


def test_a_volume_is_not_made_anew_and_that_is_said(place: Place) -> None:
    mount = "    volumes: ['rows:/rows']\n"
    place.deploy(
        stack(service("db", "echo kept > /rows/x; sleep 600", more=mount), more="volumes: {rows: {}}\n")
    )
    other = "volumes: {rows: {driver_opts: {type: tmpfs, device: tmpfs}}}\n"
    _, output = place.deploy(stack(service("db", "cat /rows/x; sleep 600", more=mount), more=other))
    assert "a volume is never made anew" in output
    with place.engine.client() as client:
        assert client.containers.get("shop-db-1").logs() == b"kept\n"


def test_a_restart_waits_too(place: Place) -> None:
    file = stack(service("web", "test ! -e /once && touch /once && sleep 600; echo not again; exit 4"))
    place.deploy(file)
    error, output = place.fails(file, "restart")
    assert "shop-web-1 exited with 4" in str(error)
    assert "  not again" in output


def test_a_deploy_that_is_cancelled_while_it_pulls_has_changed_nothing(place: Place) -> None:
    place.deploy(stack(service("web")))
    before = place.ids()
    # A registry that takes the connection and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/app:1"
        run = place.run(stack(service("web", image=image)))
        asked: list[socket.socket] = []

        def cancel_once_it_is_asked() -> None:
            asked.append(silent.accept()[0])
            run.cancelled.cancel("cancelled")

        threading.Thread(target=cancel_once_it_is_asked, daemon=True).start()
        error = place.fails_by(run)
    assert str(error) == "pull: cancelled; nothing was changed"
    assert error.details["is_changed"] is False
    assert place.ids() == before


BUILT = """    build:
      context: .
      network: none
      dockerfile_inline: |
        FROM busybox
        ENV WORD={word}
"""


def test_a_dockerfile_that_changed_is_built_although_its_image_is_there(place: Place) -> None:
    place.deploy(stack(service("web", image="shop-web:built", more=BUILT.format(word="one"))))
    before = place.image_of("shop-web-1")
    changed = stack(service("web", image="shop-web:built", more=BUILT.format(word="two")))
    _, output = place.deploy(changed, "preview")
    assert "Would be built: web" in output
    assert place.deploy(changed)[0]["is_changed"] is True
    assert place.image_of("shop-web-1") != before
    # Nothing changed: the build comes out of the cache and the container stays.
    assert place.deploy(changed)[0]["is_changed"] is False
    # Whoever says so builds only what is missing.
    missing = BUILT.format(word="three") + "    pull_policy: missing\n"
    assert place.deploy(stack(service("web", image="shop-web:built", more=missing)))[0]["is_changed"] is False


def test_what_a_profile_left_behind_is_neither_blamed_nor_started(place: Place) -> None:
    file = stack(service("web"), service("debug", "sleep 1; exit 2", more="    profiles: [debug]\n"))
    place.fails(file, env_file="COMPOSE_PROFILES=debug\n")
    with place.engine.client() as client:
        debug = client.containers.get("shop-debug-1")
        assert debug.attrs["State"]["ExitCode"] == 2
        place.deploy(file)
        place.deploy(file, "restart")
        started = debug.attrs["State"]["StartedAt"]
        debug.reload()
        assert debug.attrs["State"]["StartedAt"] == started


@pytest.mark.parametrize("file", ["services: {web: {ports: ['x:y']}}", "services: [nonsense"])
def test_a_file_that_compose_refuses_has_changed_nothing(file: str, place: Place) -> None:
    place.deploy(stack(service("web")))
    error, _ = place.fails(file)
    assert error.details["is_changed"] is False


def test_a_folder_that_is_gone_has_changed_nothing(place: Place, tmp_path: Path) -> None:
    error, _ = place.fails(stack(service("web")), project_directory=str(tmp_path / "gone"))
    assert error.details["is_changed"] is False
