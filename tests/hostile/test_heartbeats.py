"""What an agent that is not ours, or no longer, could send."""

from __future__ import annotations

import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dockmesh.agent.client import encoded
from tests.end_to_end.hand_agent import HandAgent, container
from tests.fleet.test_heartbeat_hostile import BAD
from tests.hostile.site import HEARTBEAT, Site

pytestmark = pytest.mark.integration


def document(site: Site, **changes: Any) -> dict[str, Any]:
    return {**site.agent.document([container(2, stack="ours", state="running")]), **changes}


def test_bad_heartbeats_are_refused_and_nothing_of_them_is_stored(site: Site) -> None:
    before = site.series_of("attacked")
    for name, (make, code, field) in BAD.items():
        answer = site.beat(make())
        assert answer.status == code, (name, answer.body)
        if field:
            [named] = answer.json()["errors"]
            assert field in named, name
    assert site.series_of("attacked") == before


ODD = [
    'x"} 1 evil 1 #\\', 'quo"te', "back\\slash", "\\n", "{}", "a,b=c", "x' OR 1=1", "a\u202eb", "\U0001f600", " ", "x ",
]  # fmt: skip


def test_an_odd_name_is_one_escaped_series_or_refused(site: Site) -> None:
    agent = HandAgent(site.server, "odd")
    site.secrets.add(agent.token)
    for name in ODD:
        raw = json.dumps(agent.document([container(9, stack=name, state="running")]))
        answer = site.ask(
            "POST", HEARTBEAT, raw, token=agent.token, headers={"Content-Type": "application/json"}
        )
        assert answer.status in (200, 400), answer.body
        page = site.scrape()
        assert not re.search("^evil", page, re.MULTILINE)
        shown = {
            sample.labels["stack"]
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if "stack" in sample.labels
        }
        assert (name in shown) == (answer.status == 200), name
    site.api("DELETE", f"hosts/{agent.host_id}")


@pytest.mark.parametrize("count", [5_001, 20_000])
def test_too_many_containers_are_refused(site: Site, count: int) -> None:
    before = site.series_of("attacked")
    body = encoded(document(site, inventory={"digest": "sha256:many", "containers": [
        container(number, stack="ours", state="dead") for number in range(count)
    ]}))  # fmt: skip
    assert site.beat(body).status in (413, 422)
    assert site.series_of("attacked") == before


def test_too_many_stacks_are_refused_also_with_new_names_each_time(site: Site) -> None:
    before = site.series()
    for turn in range(5):
        containers = [container(number, stack=f"s{turn}-{number}", state="dead") for number in range(501)]
        assert (
            site.beat(
                encoded(document(site, inventory={"digest": f"sha256:{turn}", "containers": containers}))
            ).status
            == 422
        )
    assert site.series() - before == set()


def test_an_agent_reports_for_its_own_host_alone(site: Site) -> None:
    before = site.audited("permission.refused")
    theirs = site.bystander.host_id
    for claim in (
        {"host_id": theirs},
        {"host_id": str(theirs)},
        {"host": "bystander"},
        {"host": {"id": theirs}},
    ):
        assert site.beat(encoded(document(site, **claim))).status == 403
    answer = site.ask(
        "POST",
        f"/api/v1/agents/commands/{uuid.uuid4()}/result",
        '{"result": "success", "duration_seconds": 1, "exit_code": 0, "output": "", "error": ""}',
        token=site.agent.token,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status in (403, 404), answer.body
    assert site.audited("permission.refused") > before


def test_of_twenty_enrollments_at_once_with_one_token_one_succeeds(site: Site) -> None:
    token = site.server.enrollmenttoken()
    site.secrets.add(token)

    def enrol(number: int) -> tuple[int, bytes]:
        answer = site.ask(
            "POST",
            "/api/v1/agents/enroll",
            json.dumps({"hostname": f"twentieth-{number}"}),
            token=token,
            headers={"Content-Type": "application/json"},
            source=f"127.5.0.{number + 1}",
        )
        return answer.status, answer.body

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(enrol, range(20)))
    assert sorted(status for status, _ in answers) == [201, *[401] * 19]
    (made,) = (json.loads(body) for status, body in answers if status == 201)
    site.secrets.add(made["agent_token"])
    site.api("DELETE", f"hosts/{made['host']['id']}")


def test_an_older_or_repeated_sequence_changes_nothing(site: Site) -> None:
    first = document(site)
    assert site.beat(encoded(first)).json()["status"] == "accepted"
    before = site.series_of("attacked")
    for sequence in (first["sequence"], first["sequence"] - 1, 0, 1):
        late = {**first, "sequence": sequence, "inventory": {"digest": "sha256:none", "containers": []}}
        assert site.beat(encoded(late)).json()["status"] == "stale"
        assert site.series_of("attacked") == before


@pytest.mark.parametrize("year", ["2016", "2036"])
def test_an_agents_clock_moves_nothing(site: Site, year: str) -> None:
    assert site.beat(encoded(document(site, sent_at=f"{year}-11-22T12:00:00Z"))).status == 200
    ages = [
        float(line.rpartition(" ")[2])
        for line in site.scrape().splitlines()
        if line.startswith("dockmesh_agent_last_seen_seconds{")
    ]
    assert all(0 <= age < 86_400 for age in ages)
    host = site.api("GET", f"hosts/{site.agent.host_id}")
    assert host["status"] == "online"
    assert abs(host["clock_skew_seconds"]) > 300_000_000
