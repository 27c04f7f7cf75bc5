"""The audit log's pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from dockmesh.audit import filters, selectors
from dockmesh.audit.actions import Action
from dockmesh.audit.models import AuditEntry
from dockmesh.core.api import size_of_page
from dockmesh.core.errors import DomainError
from dockmesh.core.forms import add_refusal
from dockmesh.core.pages import DetailPage, ObjectPage, Page

PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class FilterForm(forms.Form):
    """What the page is narrowed to; its fields are the API's parameters."""

    action = forms.ChoiceField(
        label="Action",
        required=False,
        choices=[("", "All actions"), *((action.value, action.value) for action in Action)],
    )
    actor = forms.CharField(
        label="Actor", required=False, max_length=255, widget=forms.TextInput(attrs=PLAIN)
    )
    target = forms.CharField(
        label="Target", required=False, max_length=255, widget=forms.TextInput(attrs=PLAIN)
    )
    since = forms.CharField(
        label="Since (UTC)", required=False, widget=forms.TextInput(attrs={"type": "datetime-local"})
    )
    until = forms.CharField(
        label="Until (UTC)", required=False, widget=forms.TextInput(attrs={"type": "datetime-local"})
    )


class EntryList(Page):
    """What happened, newest first; the filters are in the address, and are those of the API."""

    required_permission = "audit.read"
    template = "audit/entries.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """The entries; a filter that is none is told beside it, as in a form."""
        params = request.GET
        given = filters.EntryFilter.given(params)
        form = FilterForm(params)
        form.is_valid()
        page, status = selectors.EntryPage([], None, None), 200
        try:
            page = selectors.entry_page(
                filters.EntryFilter.narrowed(AuditEntry.objects.all(), params),
                size=size_of_page(params),
                before=filters.place(params, "before"),
                after=filters.place(params, "after"),
            )
        except DomainError as error:
            add_refusal(form, error)
            status = error.status
        return self.show(
            status=status,
            form=form,
            entries=page.entries,
            older_url=_url(given, before=page.older) if page.older is not None else "",
            newer_url=_url(given, after=page.newer) if page.newer is not None else "",
            is_filtered=bool(given) or status != 200,
            export_url=f"{reverse('audit-export')}{_url(given)}",
            entry_count=selectors.entry_count(),
        )


class EntryDetail(ObjectPage, DetailPage):
    """One entry with all that it says."""

    required_permission = "audit.read"
    template = "audit/entry.html"
    object: AuditEntry
    queryset = AuditEntry.objects.all()
    kind = "entry"
    parents = (("Audit", "audit:entries"),)

    @property
    def object_name(self) -> str:
        return f"Entry {self.object.sequence}"

    def context(self) -> Mapping[str, Any]:
        return {"changes": _changes(self.object.changes)}


def _changes(changes: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """(field, before or value, after or None) of every change."""
    rows: list[tuple[str, str, str | None]] = []
    for name, value in changes.items():
        if isinstance(value, list) and len(value) == 2:
            rows.append((name, _text(value[0]), _text(value[1])))
        else:
            rows.append((name, _text(value), None))
    return rows


def _text(value: object) -> str:
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(each)}" for name, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _url(filters: QueryDict, **place: int) -> str:
    """This page's filters at another place of the chain."""
    query = filters.copy()
    for name, value in place.items():
        query[name] = str(value)
    return f"?{query.urlencode()}" if query else ""
