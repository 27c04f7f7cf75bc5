"""The kit's tags, words and charts; the icon sprite holds what is used and nothing else."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from django.template import Context, Template
from django.urls import URLPattern, URLResolver, get_resolver
from hypothesis import given
from hypothesis import strategies as st

from dockmesh.alerts.models import Alert, AlertRule
from dockmesh.core import clock
from dockmesh.env import OWN_SEGMENTS
from dockmesh.fleet.states import ContainerState, HostStatus, StackState
from dockmesh.web import charts, text
from dockmesh.web.states import TONE_OF, tone_of

ROOT = Path(__file__).parent.parent.parent
NOW = datetime.datetime(2026, 11, 22, 13, 5, 10, tzinfo=datetime.UTC)


def render(source: str, **context: object) -> str:
    return Template("{% load kit %}" + source).render(Context(context))


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (4, "4 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (5 * 86400, "5 d ago"),
        (-90, "in 1 min"),
    ],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    assert text.ago(NOW - datetime.timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (0.32, "320 ms"),
        (4.24, "4.2 s"),
        (59.6, "1 min"),
        (83, "1 min 23 s"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
        (-5, "-5.0 s"),
        (float("inf"), "unknown"),
        (float("nan"), "unknown"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_duration_has_words(seconds: float) -> None:
    assert text.duration(seconds)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (32 * 1024**3, "32 GiB"), (5 * 1024**5, "5120 TiB")],
)
def test_sizes(count: int, words: str) -> None:
    assert text.size(count) == words


def test_every_state_has_a_tone() -> None:
    words = [*HostStatus, *StackState, *ContainerState, *Alert.Status, *AlertRule.Severity]
    assert [str(word) for word in words if str(word) not in TONE_OF] == []
    assert tone_of("never heard of") == "unknown"


def test_a_pill_is_a_word_and_a_shape() -> None:
    pill = render('{% pill "offline" %}')
    assert "Offline" in pill
    assert "#s-bad" in pill
    assert "#s-working" in render('{% pill "running" "working" %}')


def test_times_tell_exactly_in_the_title() -> None:
    shown = render("{% ago at %}", at=NOW - datetime.timedelta(seconds=4))
    assert 'title="22 Nov 2026, 13:05:06 UTC"' in shown
    assert ">4 s ago</time>" in shown
    assert "never" in render("{% ago at %}", at=None)


@pytest.mark.parametrize(
    "source",
    [
        "{% pill text %}",
        "{% copyable text %}",
        '{% copyable text "block" %}',
        '{% copyable text "inline" %}',
        "{% empty_state title=text %}{{ text }}{% endempty_state %}",
        "{% share_bar parts text %}",
    ],
)
def test_whatever_is_shown_is_escaped(source: str) -> None:
    evil = '"><script>alert(1)</script>'
    assert "<script" not in render(source, text=evil, parts=[(evil, 1)])


def test_a_histogram_shows_counts_by_bucket_not_cumulated() -> None:
    chart = render('{% histogram bounds counts "Deploys" %}', bounds=[1.0, 60.0], counts=[2, 5, 6])
    assert "1.0 s: 2" in chart
    assert "1 min: 3" in chart
    assert "more: 1" in chart


def test_charts_of_nothing_are_empty_or_flat() -> None:
    assert render('{% histogram bounds counts "x" %}', bounds=[], counts=[]).strip() == ""
    assert "x: none" in render('{% share_bar parts "x" %}', parts=[])
    [bar] = charts.bars([("a", 0.0)])
    assert bar.height == "1.0"


def test_shares_fill_the_bar_in_the_tones_of_their_states() -> None:
    cuts = charts.cuts([("online", 3), ("degraded", 0), ("offline", 1)])
    assert [(cut.x, cut.width, cut.tone) for cut in cuts] == [
        ("0.000", "74.750", tone_of("online")),
        ("75.000", "24.750", tone_of("offline")),
    ]


def test_what_stands_within_a_sentence_ends_without_a_blank() -> None:
    for source in (
        "{% ago at %}",
        "{% exact at %}",
        "{% duration 5 %}",
        "{% bytes 5 %}",
        '{% copyable 5 "inline" %}',
    ):
        for at in (NOW, None):
            shown = render(f"({source})", at=at)
            assert shown.startswith("(<"), shown
            assert shown.endswith(">)"), shown
    assert re.fullmatch(r"\(<svg .*</svg>\)", render('({% icon "plus" %})'))
    assert re.fullmatch(r"\(<span .*</span>\)", render('({% pill "online" %})'))


def test_python_writes_no_html() -> None:
    for folder in ("dockmesh", "metrics", "tokens"):
        for path in (ROOT / folder).rglob("*.py"):
            found = re.findall(r"format_html|mark_safe", path.read_text(encoding="utf-8"))
            assert found == [], path


def _sprite() -> set[str]:
    sprite = (ROOT / "dockmesh/web/static/web/icons.svg").read_text(encoding="utf-8")
    return {name for name in re.findall(r'<symbol id="([^"]+)"', sprite) if not name.startswith("s-")}


def _used_icons() -> set[str]:
    used: set[str] = set()
    for folder in ("dockmesh", "metrics", "tokens"):
        for path in (ROOT / folder).rglob("*.html"):
            source = path.read_text(encoding="utf-8")
            used.update(re.findall(r'{% icon "([^"]+)"', source))
            used.update(re.findall(r'\sicon="([^"]+)"', source))
            used.update(re.findall(r'label_icon="([^"]+)"', source))
        for path in (ROOT / folder).rglob("*.py"):
            used.update(re.findall(r'"([a-z0-9-]+)"', path.read_text(encoding="utf-8")))
    return used


def test_every_icon_in_use_is_in_the_sprite() -> None:
    missing: set[str] = set()
    for folder in ("dockmesh", "metrics", "tokens"):
        for path in (ROOT / folder).rglob("*.html"):
            named = re.findall(r'(?:{% icon |\sicon=|label_icon=)"([^"]+)"', path.read_text(encoding="utf-8"))
            missing |= set(named) - _sprite()
    assert missing == set()


def test_the_sprite_holds_no_icon_that_nobody_uses() -> None:
    assert _sprite() - _used_icons() == set()


def _templates() -> Iterator[tuple[Path, str]]:
    for folder in ("dockmesh", "metrics", "tokens"):
        for path in (ROOT / folder).rglob("*.html"):
            yield path, path.read_text(encoding="utf-8")


def _first_segments(patterns: Sequence[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for each in patterns:
        route = before + str(each.pattern)
        if isinstance(each, URLResolver) and "/" not in route:
            yield from _first_segments(each.url_patterns, route)
        elif "/" in route:
            yield route.split("/")[0]


def test_the_servers_own_paths_are_known_by_their_first_part() -> None:
    """So that a base path which begins like one of them is refused."""
    assert set(_first_segments(get_resolver().url_patterns)) <= OWN_SEGMENTS
    assert {"livez", "readyz", "metrics", "static"} <= OWN_SEGMENTS


def test_addresses_are_made_by_routes_names() -> None:
    """A literal one would lead out of the path below which the server may be reached. `urls.py` says which there are;
    what is compared with a request's `path_info` is no address, and what follows `base_url` is complete."""
    pages = set(_first_segments(get_resolver().url_patterns))
    assert {"hosts", "settings", "sign-in", "admin", "api"} <= pages
    begin = r"""(?:["']|(?<!base_url)(?<!base_url )(?<!})}{1,2})"""
    address = re.compile(rf"{begin}/(?:{'|'.join(sorted(pages))})/")
    in_python = re.compile(rf"{begin}/(?:{'|'.join(sorted(pages - {'admin', 'api'}))})/")
    found = {path: address.findall(source) for path, source in _templates()}
    for folder in ("dockmesh", "metrics", "tokens"):
        for path in (ROOT / folder).rglob("*.py"):
            if not path.relative_to(ROOT).as_posix().startswith(("dockmesh/agent/", "dockmesh/server/")):
                found[path] = in_python.findall(path.read_text(encoding="utf-8"))
    assert {path: literals for path, literals in found.items() if literals} == {}


def test_templates_are_read_without_scrolling_sideways() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, source in _templates()
        for number, line in enumerate(source.splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []


def test_templates_hold_nothing_inline() -> None:
    for folder in ("dockmesh", "metrics", "tokens"):
        for path in (ROOT / folder).rglob("*.html"):
            source = path.read_text(encoding="utf-8")
            assert not re.search(r"\sstyle=|<style|\son[a-z]+=|\shx-on|javascript:", source), path
            assert not re.search(r"<script(?![^>]*\ssrc=)", source), path
            assert not re.search(r"(src|href)=\"https?://", source), path
