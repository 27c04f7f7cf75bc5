"""Backups for real: a server, an agent, a Docker Engine and restic with a local repository."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api import until
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.test_deploys import Place
from tests.support import require

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, docker_engine: DockerEngine) -> Iterator[Place]:
    """As for deploys, with an agent that knows the repository `local`."""
    require("restic")
    password = tmp_path / "password"
    password.write_text("a password of the host's own\n")
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[repositories.local]\nrepository = "{tmp_path}/repository"\npassword_file = "{password}"\n'
    )
    made = Place(tmp_path, docker_engine, f"--config={config}")
    try:
        yield made
    finally:
        made.close()


def moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def test_a_volume_is_backed_up_changed_and_restored(place: Place, tmp_path: Path) -> None:
    compose = compose_file({"db": "sleep 600"}, volumes={"db": "rows"})
    stack = place.stack("shop", compose)
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
    with place.engine.client() as client:
        volume = Path(client.volumes.get("shop_rows").attrs["Mountpoint"])
    (volume / "table").write_text("first\n" * 1000)
    (volume / "sub").mkdir()
    (volume / "sub" / "index").write_bytes(bytes(range(256)) * 100)

    job = place.api.post(
        "backup-jobs",
        {
            "host": "alpha",
            "name": "nightly",
            "source_kind": "volumes",
            "stack_name": "shop",
            "volumes": ["rows"],
            "repository": "local",
            "is_verified": True,
            "keep_last": 1,
        },
        expect=201,
    )
    never = (("job", "nightly"),)
    assert place.api.samples()["dockmesh_backup_last_run_timestamp", never] == 0
    assert ("dockmesh_backup_last_duration_seconds", never) not in place.api.samples()

    run = place.api.post(f"backup-jobs/{job['id']}/run", expect=202)
    first = place.api.ended(f"backup-runs/{run['id']}")
    assert first["status"] == "success", first
    assert (first["files"], first["bytes_processed"]) == (2, 6000 + 25600)
    assert first["bytes_added"] > 0
    assert "Verified: 2 files" in place.api.get(f"backup-runs/{run['id']}")["output"]
    samples = place.api.samples()
    assert samples["dockmesh_backup_last_run_timestamp", never] == pytest.approx(moment(first["finished_at"]))
    assert samples["dockmesh_backup_last_duration_seconds", never] == first["duration_seconds"]

    (volume / "table").write_text("changed\n")
    (volume / "sub" / "index").unlink()
    target = tmp_path / "restored"
    run = place.api.post(
        f"backup-jobs/{job['id']}/restore",
        {"snapshot_id": first["snapshot_id"], "target_path": str(target)},
        expect=202,
    )
    restored = place.api.ended(f"backup-runs/{run['id']}")
    assert (restored["kind"], restored["status"]) == ("restore", "success"), restored
    below = target / str(volume).lstrip("/")
    assert (below / "table").read_text() == "first\n" * 1000
    assert (below / "sub" / "index").read_bytes() == bytes(range(256)) * 100
    assert (volume / "table").read_text() == "changed\n"
    # A restore is no backup: what /metrics shows is still the first run.
    assert place.api.samples()["dockmesh_backup_last_run_timestamp", never] == pytest.approx(
        moment(first["finished_at"])
    )

    run = place.api.post(f"backup-jobs/{job['id']}/verify", expect=202)
    assert place.api.ended(f"backup-runs/{run['id']}")["status"] == "success"


def test_scheduled_runs_come_by_themselves_and_a_failure_keeps_the_last_success(
    place: Place, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    place.agent.wait_log("nrolled", seconds=30)
    job = place.api.post(
        "backup-jobs",
        {
            "host": "alpha",
            "name": "often",
            "source_kind": "path",
            "path": str(source),
            "repository": "local",
            "schedule": "* * * * *",
        },
        expect=201,
    )
    runs = f"backup-runs?job={job['id']}&status=success"
    until(
        lambda: place.api.get(runs)["count"] >= 2,
        seconds=150,
        every=1,
        what=lambda: str(place.api.get(f"backup-runs?job={job['id']}")),
    )
    second, first = place.api.get(runs)["results"][:2]
    assert (first["cause"], second["cause"]) == ("schedule", "schedule")
    assert moment(second["scheduled_for"]) - moment(first["scheduled_for"]) == 60
    assert 0 <= moment(second["requested_at"]) - moment(second["scheduled_for"]) < 10
    place.api.call("PATCH", f"backup-jobs/{job['id']}", {"is_enabled": False})
    last = place.api.get(runs)["results"][0]
    key = ("dockmesh_backup_last_run_timestamp", (("job", "often"),))
    assert place.api.samples()[key] == pytest.approx(moment(last["finished_at"]))

    (source / "file").unlink()
    source.rmdir()
    run = place.api.post(f"backup-jobs/{job['id']}/run", expect=202)
    ended = place.api.ended(f"backup-runs/{run['id']}")
    assert ended["status"] == "failure"
    assert "is not there" in ended["error"]
    assert place.api.samples()[key] == pytest.approx(moment(last["finished_at"]))


def test_dockmesh_backs_up_its_own_database(place: Place, tmp_path: Path) -> None:
    place.agent.wait_log("nrolled", seconds=30)
    job = place.api.post(
        "backup-jobs",
        {"host": "alpha", "name": "own", "source_kind": "database", "repository": "local"},
        expect=201,
    )
    run = place.api.post(f"backup-jobs/{job['id']}/run", expect=202)
    ended = place.api.ended(f"backup-runs/{run['id']}")
    assert ended["status"] == "success", ended
    target = tmp_path / "restored"
    body = {"snapshot_id": "latest", "target_path": str(target)}
    run = place.api.post(f"backup-jobs/{job['id']}/restore", body, expect=202)
    assert place.api.ended(f"backup-runs/{run['id']}")["status"] == "success"
    [copy] = target.rglob("dockmesh.sqlite3")
    with sqlite3.connect(copy) as database:
        assert database.execute("SELECT name FROM backups_backupjob").fetchall() == [("own",)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert not list((place.server.data_dir / "dumps").iterdir())


def test_a_run_is_cancelled_and_what_a_job_says_is_done(place: Place, tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    for folder in (source, other):
        folder.mkdir()
        (folder / "file").write_text("content")
    (source / "left.tmp").write_text("x")
    place.agent.wait_log("nrolled", seconds=30)
    job = place.api.post(
        "backup-jobs",
        {
            "host": "alpha",
            "name": "hooks",
            "source_kind": "path",
            "paths": [str(source), str(other)],
            "excludes": ["*.tmp"],
            "before_command": f"echo dumped > {source}/dump; test ! -e {tmp_path}/wait || sleep 300",
            "after_command": f"echo $DOCKMESH_BACKUP_RESULT >> {tmp_path}/after",
            "repository": "local",
            "schedule": "@daily",
        },
        expect=201,
    )
    run = place.api.post(f"backup-jobs/{job['id']}/run", expect=202)
    first = place.api.ended(f"backup-runs/{run['id']}")
    assert (first["status"], first["files"]) == ("success", 3), first
    [snapshot] = place.api.get(f"backup-jobs/{job['id']}/snapshots")["snapshots"]
    assert snapshot["id"].startswith(first["snapshot_id"])

    (tmp_path / "wait").touch()
    run = place.api.post(f"backup-jobs/{job['id']}/run", expect=202)
    path = f"backup-runs/{run['id']}"
    until(lambda: "The command before" in place.api.get(path)["output"], seconds=60, what="it does not begin")
    place.api.post(f"{path}/cancel", expect=202)
    cancelled = place.api.ended(path)
    assert (cancelled["status"], cancelled["error"][:12]) == ("cancelled", "Cancelled by"), cancelled
    assert (tmp_path / "after").read_text() == "success\nfailure\n"
    assert place.api.get(f"backup-jobs/{job['id']}")["last_status"] == "success"

    (tmp_path / "repository").rename(tmp_path / "away")
    (tmp_path / "wait").unlink()
    run = place.api.post(f"backup-jobs/{job['id']}/run", expect=202)
    gone = place.api.ended(f"backup-runs/{run['id']}")
    assert gone["status"] == "failure"
    assert "Nothing was made in its place" in gone["error"]
    assert not (tmp_path / "repository").exists()
