"""The reusable parts of every page; docs/pages.md shows each with an example."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from django import forms, template
from django.contrib.staticfiles.storage import staticfiles_storage
from django.forms import BoundField
from django.http import HttpRequest
from django.template import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from dockmesh.core import clock
from dockmesh.core.forms import SEEN, ChangeForm
from dockmesh.web import charts, navigation, text
from dockmesh.web.states import TONES, tone_of
from dockmesh.web.theme import theme_of
from tokens.principals import principal_of

register = template.Library()


def _use(name: str, css: str) -> SafeString:
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>',
        css,
        staticfiles_storage.url("web/icons.svg"),
        name,
    )


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """A Lucide icon of the sprite; decoration only, so the text beside it says what it means."""
    return _use(name, f"icon {css}".strip())


@register.simple_tag
def shape(tone: str) -> SafeString:
    """The small shape of a tone, without a word; a state word works too."""
    tone = tone if tone in TONES else tone_of(tone)
    return _use(f"s-{tone}", f"shape shape-{tone}")


@register.simple_tag
def pill(status: Any, tone: str = "", label: str = "") -> SafeString:
    """A state as a word with a shape. `tone` where the word alone doesn't tell (a running deploy works)."""
    word = str(status)
    tone = tone or tone_of(word)
    return format_html(
        '<span class="pill pill-{}">{}{}</span>',
        tone,
        _use(f"s-{tone}", "shape"),
        label or word.replace("_", " ").capitalize(),
    )


@register.simple_tag
def ago(at: datetime.datetime | None, never: str = "never") -> SafeString:
    """How long ago, with the exact time in the title; kept true by the script while the page is open."""
    if at is None:
        return format_html('<span class="muted">{}</span>', never)
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        at.astimezone(datetime.UTC).isoformat(timespec="milliseconds"),
        text.exact_time(at),
        text.ago(at, clock.now()),
    )


@register.simple_tag
def exact(at: datetime.datetime | None, never: str = "never") -> SafeString:
    """The exact time as the text itself."""
    if at is None:
        return format_html('<span class="muted">{}</span>', never)
    return format_html(
        '<time datetime="{}">{}</time>', at.astimezone(datetime.UTC).isoformat(), text.exact_time(at)
    )


@register.simple_tag
def duration(seconds: float | datetime.timedelta | None, none: str = "–") -> SafeString:
    """A duration in words, exact on hover."""
    if isinstance(seconds, datetime.timedelta):
        seconds = seconds.total_seconds()
    if seconds is None:
        return format_html('<span class="muted">{}</span>', none)
    return format_html('<span class="nowrap" title="{} s">{}</span>', f"{seconds:g}", text.duration(seconds))


@register.simple_tag(name="bytes")
def size(count: float | None, none: str = "–") -> SafeString:
    """A size in binary units, exact on hover."""
    if count is None:
        return format_html('<span class="muted">{}</span>', none)
    return format_html('<span class="nowrap" title="{} bytes">{}</span>', f"{count:,.0f}", text.size(count))


@register.simple_tag
def copyable(value: Any, kind: str = "", label: str = "Copy") -> SafeString:
    """Text with a copy button. `kind`: "" for one line or a command, `block` for several lines,
    `inline` within a sentence or a table, `secret` large. The button appears with JavaScript only."""
    button = (
        format_html(
            '<button class="btn btn-small btn-icon" type="button" data-copy="" title="{}" aria-label="{}" hidden>{}</button>',
            label,
            label,
            _use("copy", "icon"),
        )
        if kind == "inline"
        else format_html(
            '<button class="btn btn-small" type="button" data-copy="" title="{}" hidden>{}<span data-copy-word>{}</span></button>',
            label,
            _use("copy", "icon"),
            label,
        )
    )
    if kind == "block":
        return format_html(
            '<div class="copyable"><pre tabindex="0" aria-label="Text to copy" role="region"><code>{}</code></pre>{}</div>',
            value,
            button,
        )
    if kind == "inline":
        return format_html('<span class="copyable copyable-inline"><code>{}</code>{}</span>', value, button)
    css = "copyable copyable-secret" if kind == "secret" else "copyable"
    return format_html('<div class="{}"><code>{}</code>{}</div>', css, value, button)


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


@register.simple_tag
def form_errors(form: forms.BaseForm) -> SafeString:
    """What is wrong with the form as a whole, above its fields; and, of one that changes something, what it showed."""
    seen = mark_safe("")
    if isinstance(form, ChangeForm):
        seen = format_html('<input type="hidden" name="{}" value="{}">', form.add_prefix(SEEN), form.seen)
    errors = form.non_field_errors()
    if not errors:
        return seen
    return seen + format_html(
        '<div class="notice notice-bad" role="alert">{}<div>{}</div></div>',
        _use("circle-alert", "icon"),
        " ".join(str(error) for error in errors),
    )


# ---- charts ----


@register.simple_tag
def share_bar(parts: Sequence[tuple[str, int]], label: str) -> SafeString:
    """(state, count) pairs as one bar cut into shares."""
    return charts.share(parts, label)


@register.simple_tag
def histogram(bounds: Sequence[float], cumulative: Sequence[int], label: str) -> SafeString:
    """A Prometheus-style histogram: upper bounds in seconds and cumulative counts, the last one +Inf."""
    rows: list[tuple[str, float]] = []
    before = 0
    names = [text.duration(bound) for bound in bounds] + ["more"]
    for name, count in zip(names, cumulative, strict=False):
        rows.append((name, count - before))
        before = count
    return charts.bars(rows, label=label)


@register.simple_tag
def host_mark(host: Any, is_link: bool = True) -> SafeString:
    """One host in a strip; `host` has id, name, status and last_seen_at."""
    tone = tone_of(host.status)
    seen = f"last seen {text.ago(host.last_seen_at, clock.now())}" if host.last_seen_at else "never reported"
    words = f"{host.name}: {host.status}, {seen}"
    if not is_link:
        return format_html('<i class="strip-{}" title="{}"></i>', tone, words)
    return format_html(
        '<a id="mark-{}" class="strip-{}" href="{}" title="{}"></a>',
        host.id,
        tone,
        reverse("fleet:host", args=[host.id]),
        words,
    )


# ---- the frame ----


@register.simple_tag(takes_context=True)
def theme_attribute(context: Context) -> SafeString:
    """` data-theme="dark"` where the visitor chose one; else the system's preference counts."""
    request = context.get("request")
    theme = theme_of(request) if isinstance(request, HttpRequest) else ""
    return format_html(' data-theme="{}"', theme) if theme else mark_safe("")


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
        "user_name": principal.name if principal else "",
        "csrf_token": context.get("csrf_token"),
    }
