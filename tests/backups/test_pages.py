"""The pages of backups, as a browser without JavaScript sees them."""

from typing import Any

import pytest
from django.test import Client

from dockmesh.backups import services
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.fleet.models import HeartbeatState, Host
from tests.deploys.conftest import ANN
from tests.deploys.support import fetch, progress, report
from tests.deploys.test_pages import text
from tests.fleet.factories import make_host
from tests.tokens.support import user_with

pytestmark = pytest.mark.django_db

FORM = {
    "name": "nightly",
    "source_kind": "volumes",
    "stack_name": "shop",
    "volumes": "rows, files",
    "path": "",
    "repository": "default",
    "schedule": "0 3 * * *",
    "time_zone": "Europe/Berlin",
    "keep_last": "0",
    "keep_daily": "7",
    "keep_weekly": "4",
    "keep_monthly": "6",
    "timeout_seconds": "3600",
    "hook_timeout_seconds": "300",
    "least_files_percent": "50",
    "jitter_seconds": "0",
    "is_enabled": "on",
}


@pytest.fixture
def keeper() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read", "backups.manage", name="kim"))
    return client


def make(host: Host, **values: Any) -> BackupJob:
    given = {"name": "nightly", "stack_name": "shop", "schedule": "0 3 * * *", **values}
    return services.create_job(actor=ANN, host_id=host.pk, **given)


def test_the_empty_pages_say_what_belongs_there(db: None, keeper: Client) -> None:
    assert "Add a host first" in text(keeper.get("/backups/"))
    assert "Add a host first" in text(keeper.get("/backups/new/"))
    assert "No runs yet" in text(keeper.get("/backups/runs/"))


def test_a_job_is_made_run_and_restored_from_the_pages(host: Host, keeper: Client) -> None:
    Host.objects.update(agent_info={"repositories": ["default", "offsite"]})
    assert '<option value="offsite">' in keeper.get("/backups/new/").content.decode()
    answer = keeper.post("/backups/new/", {**FORM, "host": host.pk})
    job = BackupJob.objects.get()
    assert answer["Location"] == f"/backups/{job.pk}/"
    assert job.volumes == ["rows", "files"]
    assert "Never run" in text(keeper.get(f"/backups/{job.pk}/"))

    answer = keeper.post(f"/backups/{job.pk}/run/", {"kind": "backup"})
    run = BackupRun.objects.get()
    assert answer["Location"] == f"/backups/runs/{run.pk}/"
    assert "has not ended yet" in text(keeper.post(f"/backups/{job.pk}/run/", follow=True))
    [command] = fetch(host)
    progress(host, command["id"], "50 %\n")
    part = keeper.get(f"/backups/runs/{run.pk}/?part=live")
    assert part["X-Dockmesh-Part"] == "live"
    assert "50 %" in text(part)
    report(host, command["id"], snapshot_id="ab" * 32, bytes_added=2048, bytes_processed=4096, files=7)
    page = keeper.get(f"/backups/runs/{run.pk}/")
    assert 'title="2,048 bytes"' in page.content.decode()
    assert f"/backups/{job.pk}/restore/?snapshot={'ab' * 32}" in page.content.decode()
    assert "Last success" in text(keeper.get(f"/backups/{job.pk}/?part=live"))
    assert "nightly alpha" in text(keeper.get("/backups/?last=success"))

    path = f"/backups/{job.pk}/restore/?snapshot={'ab' * 32}"
    assert "ab" * 32 in keeper.get(path).content.decode()
    form = {"snapshot_id": "ab" * 32, "target_path": "/srv/restored", "name": "wrong"}
    assert "This is not the name" in text(keeper.post(path, form), 400)
    assert "absolute path" in text(keeper.post(path, {**form, "name": "nightly", "target_path": "srv"}), 400)
    assert keeper.post(path, {**form, "name": "nightly"}).status_code == 302
    assert BackupRun.objects.first().kind == "restore"  # type: ignore[union-attr]
    assert "restore" in text(keeper.get("/backups/runs/?kind=restore&q=night"))


def test_a_verification_starts_from_the_page(host: Host, keeper: Client) -> None:
    job = make(host)
    keeper.post(f"/backups/{job.pk}/run/", {"kind": "verify"})
    assert BackupRun.objects.get().kind == "verify"


def test_what_is_wrong_stands_beside_its_field(host: Host, keeper: Client) -> None:
    page = keeper.post("/backups/new/", {**FORM, "host": host.pk, "schedule": "often", "time_zone": "UTC"})
    assert "Must have five parts" in text(page, 400)
    assert 'value="often"' in page.content.decode()
    page = keeper.post("/backups/new/", {**FORM, "host": host.pk, "stack_name": ""})
    assert "the stack whose volumes" in text(page, 400)
    assert not BackupJob.objects.exists()


def test_a_job_is_changed_and_removed(host: Host, keeper: Client) -> None:
    job = make(host, volumes=["rows", "files"])
    path = f"/backups/{job.pk}/change/"
    assert 'value="rows files"' in keeper.get(path).content.decode()
    assert keeper.post(path, {**FORM, "name": "weekly", "is_enabled": ""}).status_code == 302
    job.refresh_from_db()
    assert (job.name, job.is_enabled, job.next_run_at) == ("weekly", False, None)
    assert "Disabled" in text(keeper.get(f"/backups/{job.pk}/"))
    path = f"/backups/{job.pk}/remove/"
    assert "This is not the name" in text(keeper.post(path, {"name": "nightly"}), 400)
    assert keeper.post(path, {"name": "weekly"})["Location"] == "/backups/"
    assert not BackupJob.objects.exists()


def test_a_viewer_looks_and_touches_nothing(host: Host) -> None:
    viewer = Client()
    viewer.force_login(user_with("fleet.read", name="vic"))
    job = make(host)
    run = services.run_now(actor=ANN, job_id=job.pk)
    for path in ("/backups/", f"/backups/{job.pk}/", "/backups/runs/", f"/backups/runs/{run.pk}/"):
        page = viewer.get(path)
        assert page.status_code == 200
        assert "/remove/" not in page.content.decode()
    for path in (
        "/backups/new/",
        *(f"/backups/{job.pk}/{v}/" for v in ("change", "remove", "run", "restore")),
    ):
        assert viewer.post(path, {"name": "nightly"}).status_code == 403, path
    assert Client().get("/backups/")["Location"].startswith("/sign-in/")


def test_what_is_not_there_is_404(db: None, keeper: Client) -> None:
    for path in ("/backups/1/", "/backups/1/change/", "/backups/1/restore/", "/backups/runs/1/"):
        assert keeper.get(path).status_code == 404


def test_a_queued_run_tells_when_its_host_was_last_seen_if_ever(host: Host, keeper: Client) -> None:
    run = services.run_now(actor=ANN, job_id=make(host).pk)
    HeartbeatState.objects.update(sequence=-1)
    assert "That host is waiting for its first heartbeat." in text(keeper.get(f"/backups/runs/{run.pk}/"))
    HeartbeatState.objects.update(sequence=0)
    assert "That host was last seen just now" in text(keeper.get(f"/backups/runs/{run.pk}/"))


def test_all_that_a_job_may_say_is_in_its_form_and_on_its_page(host: Host, keeper: Client) -> None:
    given = {
        **FORM, "host": host.pk, "source_kind": "path", "path": "/srv/a", "paths": "/srv/b\n\n /srv/c ",
        "excludes": "*.tmp\n/srv/a/cache", "is_one_file_system": "on", "before_command": "echo one\necho two",
        "schedule": "@daily", "jitter_seconds": "600",
    }  # fmt: skip
    assert "root on the hosts" in text(keeper.get("/backups/new/"))
    assert keeper.post("/backups/new/", given).status_code == 302
    job = BackupJob.objects.get()
    assert (job.paths, job.excludes) == (["/srv/b", "/srv/c"], ["*.tmp", "/srv/a/cache"])
    page = text(keeper.get(f"/backups/{job.pk}/"))
    for said in ("/srv/a", "/srv/c", "*.tmp /srv/a/cache", "echo one", "@daily", "up to 10 min"):
        assert said in page
    form = keeper.get(f"/backups/{job.pk}/change/").content.decode()
    assert "/srv/b\n/srv/c" in form
    viewer = Client()
    viewer.force_login(user_with("fleet.read", name="vic"))
    assert "echo one" not in viewer.get(f"/backups/{job.pk}/").content.decode()


def test_what_removes_something_asks_first(host: Host, keeper: Client) -> None:
    job = make(host)
    for kind in ("retention", "prune", "init"):
        path = f"/backups/{job.pk}/operate/{kind}/"
        assert "repository default" in text(keeper.get(path))
        assert "This is not the name" in text(keeper.post(path, {"name": "x"}), 400)
        assert keeper.post(path, {"name": "nightly"}).status_code == 302
        run = BackupRun.objects.first()
        assert run is not None
        assert run.kind == kind
        page = keeper.get(f"/backups/runs/{run.pk}/")
        assert "Cancel the run" in text(page)
        keeper.post(f"/backups/runs/{run.pk}/cancel/")
        assert "Cancelled by kim" in text(keeper.get(f"/backups/runs/{run.pk}/"))
    assert keeper.get(f"/backups/{job.pk}/operate/backup/").status_code == 404
    path = f"/backups/{job.pk}/unlock/"
    assert "what it does at this moment is destroyed" in text(keeper.get(path))
    assert keeper.post(path, {"name": "nightly", "remove_all": "on"}).status_code == 400
    assert keeper.post(path, {"name": "default", "remove_all": "on"}).status_code == 302
    assert BackupRun.objects.first().is_remove_all  # type: ignore[union-attr]


def test_snapshots_are_shown_and_offered(host: Host, keeper: Client) -> None:
    job = make(host)
    keeper.post(f"/backups/{job.pk}/run/", {"kind": "snapshots"})
    [command] = fetch(host)
    item = {"id": "cd" * 32, "time": "2026-11-26T12:00:00Z", "hostname": "alpha", "paths": ["/v"], "tags": []}
    report(host, command["id"], snapshots=[item])
    assert "cdcdcdcd 2026-11-26T12:00 alpha Restore" in text(keeper.get(f"/backups/{job.pk}/"))
    path = f"/backups/{job.pk}/restore/?snapshot={'cd' * 32}"
    assert "2026-11-26 12:00 · cdcdcdcd" in text(keeper.get(path))
    other = make_host("beta")[0]
    form = {
        "snapshot_id": "cd" * 32, "target_path": "/srv", "name": "nightly", "paths": "/v/a\n/v/b", "host": other.pk,
    }  # fmt: skip
    assert keeper.post(path, form).status_code == 302
    [command] = fetch(other)
    assert command["payload"]["paths"] == ["/v/a", "/v/b"]


def test_a_job_whose_time_zone_is_no_more_says_so_and_can_be_mended(host: Host, keeper: Client) -> None:
    job = make(host, volumes=["rows"])
    BackupJob.objects.update(time_zone="Mars/Phobos")
    assert "Mars/Phobos is not known here any more: choose another." in text(
        keeper.get(f"/backups/{job.pk}/")
    )
    assert keeper.get("/backups/").status_code == 200
    saved = keeper.post(f"/backups/{job.pk}/change/", {**FORM, "time_zone": "UTC"})
    assert saved.status_code == 302
    assert "is not known here any more" not in text(keeper.get(f"/backups/{job.pk}/"))
