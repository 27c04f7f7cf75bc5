"""The reusable parts of every page; docs/pages.md shows each with an example."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django import forms, template
from django.forms import BoundField
from django.http import HttpRequest
from django.template import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from dockmesh.core import clock
from dockmesh.core.forms import SEEN, ChangeForm
from dockmesh.core.tables import FilterLink
from dockmesh.core.text import state_word
from dockmesh.web import charts, navigation, text
from dockmesh.web.states import TONES, tone_of
from dockmesh.web.strip import Group
from dockmesh.web.theme import theme_of
from tokens.principals import principal_of

register = template.Library()


@lru_cache(maxsize=1024)
def _kept(part: str, **values: str) -> SafeString:
    """A part that a page has dozens of, and of a few kinds: made once."""
    return render_to_string(f"web/kit/{part}.html", values)


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """A Lucide icon of the sprite; decoration only, so the text beside it says what it means."""
    return _kept("use", name=name, css=f"icon {css}".strip())


@register.simple_tag
def shape(tone: str) -> SafeString:
    """The small shape of a tone, without a word; a state word works too."""
    tone = tone if tone in TONES else tone_of(tone)
    return _kept("use", name=f"s-{tone}", css=f"shape shape-{tone}")


@register.simple_tag
def choice_shape(link: FilterLink, is_state: bool) -> SafeString:
    """The shape beside a filter's word, where that is a state."""
    tone = link.tone or (tone_of(link.value) if is_state and link.value else "")
    return shape(tone) if tone else SafeString()


@register.filter
def number(count: int | None) -> str:
    """A whole number with its thousands apart: `15,000`."""
    return f"{count or 0:,}"


@register.simple_tag
def pill(status: Any, tone: str = "", label: str = "") -> SafeString:
    """A state as a word with a shape. `tone` where the word alone doesn't tell (a running deploy works)."""
    word = str(status)
    tone = tone or tone_of(word)
    label = label or state_word(word)
    return _kept("pill", tone=tone, name=f"s-{tone}", css="shape", label=label)


@register.inclusion_tag("web/kit/ago.html")
def ago(at: datetime.datetime | None, never: str = "never") -> dict[str, str]:
    """How long ago, with the exact time in the title; kept true by the script while the page is open."""
    if at is None:
        return {"none": never}
    return {
        "iso": at.astimezone(datetime.UTC).isoformat(timespec="milliseconds"),
        "exact": text.exact_time(at),
        "words": text.ago(at, clock.now()),
    }


@register.inclusion_tag("web/kit/exact.html")
def exact(at: datetime.datetime | None, never: str = "never") -> dict[str, str]:
    """The exact time as the text itself."""
    if at is None:
        return {"none": never}
    return {"iso": at.astimezone(datetime.UTC).isoformat(), "words": text.exact_time(at)}


@register.inclusion_tag("web/kit/number.html")
def duration(seconds: float | datetime.timedelta | None, none: str = "–") -> dict[str, str]:
    """A duration in words, exact on hover."""
    if isinstance(seconds, datetime.timedelta):
        seconds = seconds.total_seconds()
    if seconds is None:
        return {"none": none}
    return {"exact": f"{seconds:g} s", "words": text.duration(seconds)}


@register.inclusion_tag("web/kit/number.html", name="bytes")
def size(count: float | None, none: str = "–") -> dict[str, str]:
    """A size in binary units, exact on hover."""
    if count is None:
        return {"none": none}
    return {"exact": f"{count:,.0f} bytes", "words": text.size(count)}


@register.inclusion_tag("web/kit/number.html")
def cores(count: float | None, none: str = "unknown") -> dict[str, str]:
    """How busy processors were, as a share of one: `12.5 %`, and `250 %` for two and a half of them."""
    if count is None:
        return {"none": none}
    return {"exact": f"{count:,.6f} of a processor", "words": f"{100 * count:,.1f} %"}


@register.inclusion_tag("web/kit/copyable.html")
def copyable(value: Any, kind: str = "", label: str = "Copy", name: str = "Text to copy") -> dict[str, Any]:
    """Text with a copy button. `kind`: "" for one line or a command, `block` for several lines,
    `inline` within a sentence or a table, `secret` large. The button appears with JavaScript only. `name` tells
    several blocks of a page apart for screen readers."""
    return {"value": value, "kind": kind, "label": label, "name": name}


@register.simple_block_tag
def empty_state(
    content: SafeString,
    title: str = "",
    icon: str = "circle-dashed",
    action: str = "",
    label: str = "",
    label_icon: str = "plus",
    small: bool = False,
) -> SafeString:
    """What belongs here, in the words of the block, and a button to the one route that fills it."""
    return render_to_string(
        "web/parts/empty.html",
        {
            "title": title,
            "text": content,
            "icon_name": icon,
            "action_url": reverse(action) if action else "",
            "label": label,
            "label_icon": label_icon,
            "small": small,
        },
    )


@register.inclusion_tag("web/parts/field.html")
def field(bound: BoundField) -> dict[str, Any]:
    """A form's field: label, the field, what is wrong with it, and a sentence on what it is for."""
    widget = bound.field.widget
    if isinstance(widget, forms.CheckboxInput):
        kind = "checkbox"
    elif isinstance(widget, (forms.CheckboxSelectMultiple, forms.RadioSelect)):
        kind = "group"
    else:
        kind = "plain"
    return {"bound": bound, "kind": kind, "errors_id": f"{bound.auto_id}_error"}


@register.inclusion_tag("web/kit/form_errors.html")
def form_errors(form: forms.BaseForm) -> dict[str, Any]:
    """What is wrong with the form as a whole, above its fields; and, of one that changes something, what it showed."""
    errors = {"errors": form.non_field_errors()}
    if isinstance(form, ChangeForm):
        return {**errors, "seen_name": form.add_prefix(SEEN), "seen": form.seen}
    return errors


# ---- charts ----


@register.inclusion_tag("web/kit/share.html")
def share_bar(parts: Sequence[tuple[str, int]], label: str) -> dict[str, Any]:
    """(state, count) pairs as one bar cut into shares."""
    words = ", ".join(f"{count} {state}" for state, count in parts if count) or "none"
    return {"cuts": charts.cuts(parts), "label": label, "words": words}


@register.inclusion_tag("web/kit/share.html")
def used_bar(used: float, whole: float, label: str) -> dict[str, Any]:
    """How much of the whole is used, as a bar; its tone says how near the end it is, as the words beside it must too."""
    share = used / whole
    return {
        "cuts": [charts.filled(share)],
        "label": label,
        "words": f"{100 * share:.0f} % used",
    }


@register.filter
def per_cent(part: float, whole: float) -> str:
    """`42 %`."""
    return f"{100 * part / whole:.0f} %"


@register.filter
def less(whole: float, part: float) -> float:
    """What remains of the whole; nothing where the part is said to be more."""
    return max(whole - part, 0)


@register.inclusion_tag("web/kit/bars.html")
def histogram(bounds: Sequence[float], cumulative: Sequence[int], label: str) -> dict[str, Any]:
    """A Prometheus-style histogram: upper bounds in seconds and cumulative counts, the last one +Inf."""
    rows: list[tuple[str, float]] = []
    before = 0
    names = [text.duration(bound) for bound in bounds] + ["more"]
    for name, count in zip(names, cumulative, strict=False):
        rows.append((name, count - before))
        before = count
    bars = charts.bars(rows)
    return {
        "bars": bars,
        "label": label,
        "words": ", ".join(f"{bar.name} {bar.value}" for bar in bars),
        "width": charts.WIDTH,
        "height": charts.HEIGHT,
        "foot": charts.HEIGHT - charts.FOOT,
    }


@register.inclusion_tag("web/kit/host_strip.html")
def host_strip(groups: Sequence[Group]) -> dict[str, Any]:
    """A cell for each host, a link; with the script one tab stop, arrow keys, and a small card."""
    return {"groups": groups}


# ---- the frame ----


@register.simple_tag(takes_context=True)
def chosen_theme(context: Context) -> str:
    """`light` or `dark` where the visitor chose one; else empty: the system's preference counts."""
    request = context.get("request")
    return theme_of(request) if isinstance(request, HttpRequest) else ""


@register.simple_tag
def now_iso() -> str:
    """The server's time, by which the script counts how long ago something was."""
    return clock.now().isoformat(timespec="milliseconds")


@register.inclusion_tag("web/parts/sidebar.html", takes_context=True)
def sidebar(context: Context) -> dict[str, Any]:
    """The pages that this user may see, and who is signed in."""
    request = context.get("request")
    if not isinstance(request, HttpRequest):
        return {"groups": [], "here": "/", "other_theme": "dark", "user_name": ""}
    principal = principal_of(request)
    permissions = principal.permissions if principal else frozenset()
    return {
        "groups": navigation.shown(permissions, request.path),
        "here": request.get_full_path(),
        "other_theme": "light" if theme_of(request) == "dark" else "dark",
        "is_theme_chosen": bool(theme_of(request)),
        "user_name": principal.name if principal else "",
        "csrf_token": context.get("csrf_token"),
    }
