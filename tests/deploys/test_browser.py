"""The pages of stacks, deploys and backups in a real Chromium, live parts included."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.db import transaction
from playwright.sync_api import expect

from dockmesh.backups import services as backups
from dockmesh.core import clock
from dockmesh.core.encrypted import encrypt
from dockmesh.deploys import services, surveys
from dockmesh.deploys.models import Deploy, Survey
from dockmesh.fleet.models import Host, Stack
from tests.deploys.conftest import ANN, COMPOSE
from tests.deploys.support import fetch, progress, report
from tests.fleet.factories import make_host
from tests.integration.browser import Visit, check_page
from tests.tokens.support import user_with

pytestmark = pytest.mark.browser


SURVEYED = {
    "project_directory": "/opt/shop",
    "is_directory_visible": True,
    "config_files": [{"path": "/opt/shop/compose.yaml", "content": COMPOSE}],
    "env_files": [{"path": "/opt/shop/.env", "content": "DB_PASSWORD=x\nMODE=live\n"}],
    "others": ["shop-web-1"],
    "compose_error": 'service "web" refers to undefined volume rows',
    "mounts": [
        {
            "service": "db",
            "target": "/data",
            "before": "/opt/shop/data",
            "after": "/opt/new",
            "is_kept": False,
        },
        {"service": "db", "target": "/rows", "before": "shop_rows", "after": "shop_rows", "is_kept": True},
        {"service": "web", "target": "/www", "before": "/opt/shop/www"},
    ],
}


def everything() -> dict[str, str]:
    """Stacks, deploys and backups in every state; {name: path} of their pages."""
    host = make_host("alpha")[0]
    found = Stack.objects.create(host=host, name="found", state="running", state_changed_at=host.enrolled_at)
    read = Stack.objects.create(host=host, name="read", state="running", state_changed_at=host.enrolled_at)
    Survey.objects.create(
        stack=read,
        request_id=uuid.uuid4(),
        asked_at=clock.now(),
        answered_at=clock.now(),
        encrypted_answer=encrypt(json.dumps(SURVEYED), purpose=surveys.PURPOSE),
    )
    stack = services.create_stack(
        actor=ANN, host_id=host.pk, name="shop", compose_file=COMPOSE, env_file="DB_PASSWORD=x\nMODE=live\n"
    )
    for result in ("success", "failure"):
        services.request_deploy(actor=ANN, stack_id=stack.pk)
        report(
            host, fetch(host)[0]["id"], result=result, output="Pulling web (nginx:1.27)\n" * 60, seconds=83.2
        )
    done = Deploy.objects.get(status="success")
    running = services.request_deploy(actor=ANN, stack_id=stack.pk)
    progress(host, fetch(host)[0]["id"], "Creating network shop_default\n")
    job = backups.create_job(
        actor=ANN, host_id=host.pk, name="nightly", stack_name="shop", volumes=["rows"], schedule="0 3 * * *"
    )
    run = backups.run_now(actor=ANN, job_id=job.pk)
    [command] = [c for c in fetch(host) if c["kind"] == "backup"]
    report(host, command["id"], snapshot_id="ab" * 32, bytes_added=20_480, bytes_processed=2**33, files=1200)
    return {
        "stacks": "/stacks/",
        "stack-new": "/stacks/new/",
        "stack": f"/stacks/{stack.pk}/",
        "stack-change": f"/stacks/{stack.pk}/change/",
        "stack-remove": f"/stacks/{stack.pk}/remove/",
        "stack-found": f"/stacks/{found.pk}/",
        "stack-adopt": f"/stacks/{found.pk}/adopt/",
        "stack-adopt-read": f"/stacks/{read.pk}/adopt/",
        "deploys": "/deploys/",
        "deploy": f"/deploys/{done.pk}/",
        "deploy-failed": f"/deploys/{done.pk + 1}/",
        "deploy-running": f"/deploys/{running.pk}/",
        "roll-back": f"/deploys/{done.pk}/rollback/",
        "backups": "/backups/",
        "job-new": "/backups/new/",
        "job": f"/backups/{job.pk}/",
        "restore": f"/backups/{job.pk}/restore/",
        "runs": "/backups/runs/",
        "run": f"/backups/runs/{run.pk}/",
    }


def test_no_page_has_a_fault(visit: Visit) -> None:
    user = user_with(name="ada", is_superuser=True)
    page = visit("/stacks/", user=user)
    for empty in ("/stacks/", "/stacks/new/", "/deploys/", "/backups/", "/backups/new/", "/backups/runs/"):
        page.goto(empty)
        check_page(page)
    for path in everything().values():
        page.goto(path)
        check_page(page)


def as_heartbeat(host: Host, action: Any) -> Any:
    """As the server does it: in one transaction, with the host locked."""
    from dockmesh.fleet import services as fleet

    with transaction.atomic():
        fleet.lock_host(host.pk)
        return action()


def test_a_deploy_is_watched_live_until_it_ends(visit: Visit) -> None:
    host = make_host("alpha")[0]
    page = visit("/stacks/new/", user=user_with("fleet.read", "stacks.deploy", name="ann"))
    page.get_by_label("Host").select_option("alpha")
    page.get_by_label("Name").fill("shop")
    page.get_by_label("Compose file").fill(COMPOSE)
    page.get_by_label("Env file").fill("KEY=hunter2")
    page.get_by_role("button", name="Store stack").click()
    expect(page.get_by_role("heading", name="shop: deploy")).to_be_visible()
    expect(page.get_by_text("Waits for the agent of alpha")).to_be_visible()
    page.evaluate("window.stayed = true")

    [command] = as_heartbeat(host, lambda: fetch(host))
    expect(page.get_by_text("Running", exact=True)).to_be_visible()
    as_heartbeat(host, lambda: progress(host, command["id"], "Pulling web\n"))
    expect(page.get_by_role("region", name="What was written")).to_contain_text("Pulling web")
    report(host, command["id"], output="Pulling web\nStarted web\n", seconds=4.2)
    expect(page.get_by_text("Success", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="What was written")).to_contain_text("Started web")
    expect(page.get_by_text("4.2 s")).to_be_visible()
    assert page.evaluate("window.stayed") is True
    # It has ended, so the page does not ask any more.
    assert page.locator("[data-live]").count() == 0
    assert "hunter2" not in page.content()


def test_everything_can_be_done_without_javascript(visit: Visit) -> None:
    host = make_host("alpha")[0]
    user = user_with(name="ada", is_superuser=True)
    page = visit("/stacks/new/", user=user, has_javascript=False)
    page.get_by_label("Host").select_option("alpha")
    page.get_by_label("Name").fill("shop")
    page.get_by_label("Compose file").fill(COMPOSE)
    page.get_by_role("button", name="Store stack").click()
    report(host, fetch(host)[0]["id"])
    page.goto(f"/stacks/{Stack.objects.get().pk}/")
    page.get_by_role("link", name="Remove").click()
    page.get_by_label("Leave them alone").check()
    page.get_by_label("Type the name").fill("shop")
    page.get_by_role("button", name="Remove stack").click()
    expect(page.get_by_text("The stack shop is removed.")).to_be_visible()

    page.goto("/backups/new/")
    page.get_by_label("Host").select_option("alpha")
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("What to back up").select_option("path")
    page.locator("#id_path").fill("/srv")
    page.get_by_role("button", name="Save job").click()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", name="nightly: backup")).to_be_visible()
