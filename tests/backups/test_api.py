"""Backups by REST."""

from typing import Any

import pytest

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.fleet.models import Host
from tests.deploys.support import fetch, report
from tests.deploys.test_api import Headers, get, post

pytestmark = pytest.mark.django_db


def make(on: Host, headers: Headers, **changes: Any) -> dict[str, Any]:
    body = {"host": on.pk, "name": "nightly", "stack_name": "shop", "schedule": "0 3 * * *", **changes}
    answer = post("backup-jobs", headers, body)
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_the_way_of_a_job(host: Host, may_back_up: Headers) -> None:
    job = make(host, may_back_up, time_zone="Europe/Berlin")
    path = f"backup-jobs/{job['id']}"
    assert job["host"] == {"id": host.pk, "name": "alpha"}
    assert (job["last_success_at"], job["last_status"], job["keep_daily"]) == (None, "", 7)
    assert job["next_run_at"] is not None
    assert get("backup-jobs", may_back_up).json()["results"] == [get(path, may_back_up).json()]

    changed = post(path, may_back_up, {"keep_daily": 14, "is_enabled": False}, "patch").json()
    assert (changed["keep_daily"], changed["next_run_at"]) == (14, None)

    answer = post(f"{path}/run", may_back_up)
    run = answer.json()
    assert (answer.status_code, answer["Location"]) == (202, f"/api/v1/backup-runs/{run['id']}")
    assert (run["kind"], run["status"], run["cause"], run["requested_by"]) == (
        "backup",
        "queued",
        "request",
        "keeper",
    )
    assert post(f"{path}/run", may_back_up).status_code == 409
    report(host, fetch(host)[0]["id"], snapshot_id="ab" * 32, bytes_added=5, seconds=1.5, output="ok\n")
    shown = get(f"backup-runs/{run['id']}", may_back_up).json()
    assert (shown["status"], shown["snapshot_id"], shown["bytes_added"]) == ("success", "ab" * 32, 5)
    assert shown["output"] == "ok\n"
    assert get(path, may_back_up).json()["last_success_at"] == shown["finished_at"]

    body = {"snapshot_id": shown["snapshot_id"], "target_path": "/srv/restored"}
    answer = post(f"{path}/restore", may_back_up, body)
    assert (answer.status_code, answer.json()["kind"]) == (202, "restore")
    report(host, fetch(host)[0]["id"])
    assert post(f"{path}/verify", may_back_up).status_code == 202
    report(host, fetch(host)[0]["id"], result="failure")
    listed = get("backup-runs?kind=verify&status=failure&job=nightly&host=alpha", may_back_up).json()
    assert listed["count"] == 1
    assert "output" not in listed["results"][0]

    assert post(path, may_back_up, method="delete").status_code == 204
    assert get(path, may_back_up).status_code == 404
    assert get("backup-runs", may_back_up).json()["count"] == 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"host": "nobody"}, "host"),
        ({"schedule": "often"}, "schedule"),
        ({"time_zone": "Moon"}, "time_zone"),
        ({"source_kind": "tape"}, "source_kind"),
        ({"stack_name": ""}, "stack_name"),
        ({"source_kind": "path"}, "path"),
        ({"volumes": ["/"]}, "volumes"),
        ({"volumes": "rows"}, "volumes"),
        ({"keep_daily": -1}, "keep_daily"),
        ({"keep_daily": 2**70}, "keep_daily"),
        ({"is_enabled": "perhaps"}, "is_enabled"),
        ({"snapshot_tag": "x"}, "snapshot_tag"),
    ],
)
def test_bad_input_names_its_field(host: Host, may_back_up: Headers, changes: Any, field: str) -> None:
    answer = post("backup-jobs", may_back_up, {"host": host.pk, "name": "n", "stack_name": "s", **changes})
    assert answer.status_code == 400
    named = next(iter(answer.json()["errors"]), "")
    # 2**70 is refused before it has a field.
    assert named.startswith(field) or changes == {"keep_daily": 2**70}
    assert not BackupJob.objects.exists()


def test_a_name_that_is_taken_is_a_conflict(host: Host, may_back_up: Headers) -> None:
    make(host, may_back_up)
    answer = post("backup-jobs", may_back_up, {"host": host.pk, "name": "nightly", "stack_name": "shop"})
    assert (answer.status_code, list(answer.json()["errors"])) == (409, ["name"])


def test_who_may_only_read_changes_nothing(host: Host, may_back_up: Headers, may_read: Headers) -> None:
    path = f"backup-jobs/{make(host, may_back_up)['id']}"
    refused = [
        post("backup-jobs", may_read, {"host": host.pk, "name": "x"}),
        post(path, may_read, {"name": "y"}, "patch"),
        post(path, may_read, method="delete"),
        *(post(f"{path}/{verb}", may_read, {}) for verb in ("run", "restore", "verify")),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert not BackupRun.objects.exists()
    assert get(path, may_read).status_code == 200
    assert {get(p, {}).status_code for p in ("backup-jobs", path, "backup-runs", "backup-runs/1")} == {401}


def test_filters_are_checked(host: Host, may_back_up: Headers) -> None:
    make(host, may_back_up)
    for query, count in {"host=alpha": 1, "is_enabled=false": 0, "last_status=success": 0}.items():
        assert get(f"backup-jobs?{query}", may_back_up).json()["count"] == count
    for query in ("last_status=fine", "is_enabled=perhaps", "colour=red"):
        assert get(f"backup-jobs?{query}", may_back_up).status_code == 400
    assert get("backup-runs?kind=tape", may_back_up).status_code == 400
    assert get(f"backup-runs/{10**30}", may_back_up).status_code == 404


def test_the_openapi_schema_of_these_endpoints_has_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    from drf_spectacular.generators import SchemaGenerator

    from dockmesh.backups import api_urls

    schema = SchemaGenerator(patterns=api_urls.urlpatterns).get_schema(request=None, public=True)
    assert "/backup-jobs/{id}/run" in schema["paths"]
    printed = [line for line in capsys.readouterr().err.splitlines() if "resolve authenticator" not in line]
    assert not [line for line in printed if "Warning" in line or "Error" in line]


def test_what_acts_on_the_repository_by_rest(host: Host, may_back_up: Headers, may_read: Headers) -> None:
    job = make(host, may_back_up, before_command="echo secret\necho two")
    path = f"backup-jobs/{job['id']}"
    assert get(path, may_back_up).json()["before_command"] == "echo secret\necho two"
    assert get(path, may_read).json()["before_command"] == ""
    for verb in ("retention", "prune", "init", "snapshots", "unlock"):
        assert post(f"{path}/{verb}", may_read, {}).status_code == 403
        answer = post(f"{path}/{verb}", may_back_up, {})
        assert (answer.status_code, answer.json()["kind"]) == (202, verb), answer.content
        run = f"backup-runs/{answer.json()['id']}"
        assert post(f"{run}/cancel", may_read, {}).status_code == 403
        assert post(f"{run}/cancel", may_back_up).json()["status"] == "cancelled"
        assert post(f"{run}/cancel", may_back_up).status_code == 409
    refused = post(f"{path}/unlock", may_back_up, {"remove_all": True})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["confirm"])
    confirmed = post(f"{path}/unlock", may_back_up, {"remove_all": True, "confirm": "default"})
    assert confirmed.status_code == 202
    assert get(f"{path}/snapshots", may_read).json() == {"snapshots_read_at": None, "snapshots": []}
    body = {"snapshot_id": "latest", "target_path": "/srv", "paths": ["/a"], "host": "alpha"}
    assert post(f"{path}/restore", may_back_up, body).json()["paths"] == ["/a"]
