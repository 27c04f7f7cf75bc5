"""When a backup is due."""

import datetime

import pytest

from dockmesh.backups import services
from dockmesh.backups.models import BackupJob
from dockmesh.backups.schedule import clean_schedule, clean_time_zone, next_after, next_of, preview
from dockmesh.core import clock
from dockmesh.core.errors import InvalidInput
from tests.deploys.conftest import ANN
from tests.fleet.factories import make_host


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "after", "due"),
    [
        ("0 3 * * *", "UTC", "2026-11-22 12:00", "2026-11-23 03:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-11-22 12:00", "2026-11-23 02:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-07-22 12:00", "2026-07-23 01:00"),
        ("*/15 * * * *", "UTC", "2026-11-22 12:00", "2026-11-22 12:15"),
        ("0 0 29 2 *", "UTC", "2026-11-22 12:00", "2028-02-29 00:00"),
        ("30 4 * * MON", "America/New_York", "2026-11-22 12:00", "2026-11-23 09:30"),
    ],
)
def test_the_next_run_is_by_the_time_zones_clock(expression: str, zone: str, after: str, due: str) -> None:
    assert next_after(clean_schedule(expression), zone, at(after)) == at(due)


def test_a_night_with_a_change_of_the_clock_has_its_run_once() -> None:
    # On 29 March 2026 Berlin has no 02:30, on 25 October it has two.
    spring = preview("30 2 * * *", "Europe/Berlin", at("2026-03-28 12:00"))
    assert spring == [at("2026-03-29 01:00"), at("2026-03-30 00:30"), at("2026-03-31 00:30")]
    autumn = preview("30 2 * * *", "Europe/Berlin", at("2026-10-24 12:00"))
    assert autumn == [at("2026-10-25 00:30"), at("2026-10-26 01:30"), at("2026-10-27 01:30")]


def test_without_an_expression_it_is_never_due() -> None:
    assert clean_schedule("  ") == ""
    assert next_after("", "UTC", at("2026-11-22 12:00")) is None
    assert preview("", "UTC", at("2026-11-22 12:00")) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("* * * *", "five parts"),
        ("* * * * * *", "five parts"),
        ("@reboot", "five parts"),
        ("61 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("a b c d e", "bad minute"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 1 1 " + "1," * 60 + "1", "at most"),
        ("٣ * * * *", "at most"),
        (5, "text"),
    ],
)
def test_a_bad_expression_is_refused(value: object, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        clean_schedule(value)
    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["Mars/Olympus", "", None, "../../etc/passwd", "utc ", 1])
def test_a_time_zone_that_nobody_knows_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        clean_time_zone(value)


def test_a_name_is_a_schedule_and_jitter_skips_nothing() -> None:
    assert clean_schedule(" @Daily ") == "@daily"
    start = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)
    assert next_after("@daily", "UTC", start) == datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
    moments = [start]
    for _ in range(30):
        following = next_of("@hourly", "UTC", moments[-1], jitter_seconds=1800, seed="job-1")
        assert following is not None
        moments.append(following)
        # Asked again a little later or earlier, it is the same moment.
        assert next_of("@hourly", "UTC", moments[-2], jitter_seconds=1800, seed="job-1") == following
        just_before = following - datetime.timedelta(seconds=1)
        assert next_of("@hourly", "UTC", just_before, jitter_seconds=1800, seed="job-1") == following
    assert [moment.hour for moment in moments[1:]] == [(12 + n) % 24 for n in range(30)] or [
        moment.hour for moment in moments[1:]
    ] == [(13 + n) % 24 for n in range(30)]
    assert len({(moment.minute, moment.second) for moment in moments[1:]}) > 20
    assert all(moment.minute <= 30 for moment in moments[1:])


@pytest.mark.django_db
def test_a_clock_that_was_wrong_once_leaves_no_job_waiting_for_years(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    host = make_host("alpha")[0]
    values = {"source_kind": "volumes", "stack_name": "shop", "volumes": ["rows"]}
    for name, schedule in (("nightly", "0 3 * * *"), ("yearly", "@yearly"), ("gone", "0 3 * * *")):
        services.create_job(actor=ANN, host_id=host.pk, name=name, schedule=schedule, **values)
    jobs = BackupJob.objects
    jobs.filter(name="nightly").update(next_run_at=datetime.datetime(2028, 3, 1, 3, tzinfo=datetime.UTC))
    jobs.filter(name="gone").update(
        next_run_at=datetime.datetime(2028, 3, 1, 3, tzinfo=datetime.UTC), time_zone="Nowhere/Gone"
    )
    services.look_at_schedules()
    found = {name: f"{at:%Y-%m-%d %H}" for name, at in jobs.values_list("name", "next_run_at")}
    assert found == {"nightly": "2026-11-23 03", "yearly": "2027-01-01 00", "gone": "2028-03-01 03"}
    # What could not be started is tried again within the hour, also of a job that is due less often.
    jobs.filter(name="nightly").update(next_run_at=now + datetime.timedelta(hours=1))
    services.look_at_schedules()
    assert jobs.get(name="nightly").next_run_at == now + datetime.timedelta(hours=1)
