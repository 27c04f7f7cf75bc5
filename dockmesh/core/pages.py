"""Pages, declared: each page of a room is one of four views, and a button without a page of its own is an `Action`.

| view | shows |
|---|---|
| `ListPage` | many things: searched, filtered, sorted and paged by the address |
| `DetailPage` | one thing |
| `FormPage` | a form over a service |
| `ConfirmPage` | what is about to happen to which object, and asks for its name |

A page declares who may see it (`required_permission`), its template, what leads to it (`parents`, `title`), and what it
calls (`service`). A list or a detail page with a `part` refreshes itself: `?part=live` answers that template alone.
A page about one object takes it from `ObjectPage`, which is the first of its bases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, reduce
from operator import or_
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.module_loading import import_string
from django.views.generic import View

from dockmesh.core import keptforms
from dockmesh.core.errors import DomainError, NotFound
from dockmesh.core.forms import ChangeForm, ConfirmForm, add_refusal, lead_to_fault
from dockmesh.core.tables import Column, Filter, Table

Parent = tuple[str, str]
"""A page that leads here: what it is called, and its route's name."""

# Each answer's length is made random by Django, and a form's CSRF token is masked anew each time: so the length of what
# is sent tells nothing of what is in it (BREACH).
_GZIP = GZipMiddleware(lambda request: HttpResponse())


class Page(View):
    """A template with its context, for those who hold `required_permission`. One that declares none opens to nobody."""

    required_permission: str = ""
    template: str = ""
    parents: Sequence[Parent] = ()
    title: str = ""
    """What this page is called in its breadcrumbs; there are none without parents."""

    object: Any = None
    """What the page is about, of an `ObjectPage`, and what people call that."""
    object_name: Any = ""

    http_method_names = ["get", "head", "post"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Asks whether the visitor may, then answers."""
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            return self.http_method_not_allowed(request, *args, **kwargs)
        response = (
            self.authorise(self.required_permission)
            or self.elsewhere()
            or super().dispatch(request, *args, **kwargs)
        )
        # A stream is sent as it comes: compressed, it would wait for more.
        return _GZIP.process_response(request, response) if isinstance(response, HttpResponse) else response

    def authorise(self, permission: str) -> HttpResponseBase | None:
        """The way to sign in where nobody has; raises `PermissionDenied`, audited, where the visitor lacks the permission.

        What a visitor may is the business of a room above this one, which the settings name.
        """
        check: Callable[[HttpRequest, str], HttpResponseBase | None]
        check = import_string(settings.PAGE_AUTHORISATION)
        return check(self.request, permission)

    def elsewhere(self) -> HttpResponseBase | None:
        """Where to go if this page makes no sense as things are."""
        return None

    @property
    def principal(self) -> Any:
        """Who asks: a `tokens.principals.Principal`."""
        return self.request.principal  # type: ignore[attr-defined]

    def may(self, permission: str) -> bool:
        """Whether the visitor holds another permission too."""
        return bool(self.principal.has(permission))

    def url(self) -> str:
        """The own page of what this one is about."""
        raise NotImplementedError

    def subject(self) -> Mapping[str, Any]:
        """How a service is told what this page is about."""
        return {}

    def crumbs(self) -> Sequence[tuple[str, str]]:
        """(label, address) of what leads to this page, and of itself, whose address is empty."""
        above = [(label, reverse(route)) for label, route in self.parents]
        return [*above, (self.title, "")] if above else []

    def context(self) -> Mapping[str, Any]:
        """What the template shows, besides what each kind of page gives it."""
        return {}

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        """The page."""
        context = {"frame": "web/base.html", "crumbs": self.crumbs(), **self.context(), **more}
        return render(self.request, template or self.template, context, status=status)


class ObjectPage(Page):
    """A page about one object, whose key is in the address. Rooms say of what type: `object: Host`."""

    queryset: QuerySet[Any]
    kind: str = ""
    """What the object is called: in the template, in a confirmation, and, with `_id`, by the services."""
    route: str = ""
    """The route of the object's own page."""

    @cached_property
    def object(self) -> Any:
        """The object; 404 where there is none."""
        return get_object_or_404(self.queryset.all(), pk=self.kwargs["pk"])

    @property
    def object_name(self) -> str:
        """What people call it."""
        return str(getattr(self.object, "name", self.object.pk))

    def url(self) -> str:
        return reverse(self.route, args=[self.object.pk])

    def subject(self) -> Mapping[str, Any]:
        return {f"{self.kind}_id": self.object.pk}

    def crumbs(self) -> Sequence[tuple[str, str]]:
        above = [(label, reverse(route)) for label, route in self.parents]
        if not self.title:
            return [*above, (self.object_name, "")]
        return [*above, (self.object_name, self.url()), (self.title, "")]

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        return super().show(template, status=status, **{self.kind: self.object, **more})


class LivePart(Page):
    """A page of which a part refreshes itself: `?part=live` is that part alone.

    The header is the script's proof that an answer is the part, and not the sign-in page or a proxy's.
    """

    part: str = ""
    """The part's template; a page whose own one extends `frame` names that, and its block `live` is the part."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The page, or the part of it."""
        return self.show_live()

    def show_live(self, **more: Any) -> HttpResponseBase:
        """The page, or the part of it where that is asked for."""
        if not self.part or self.request.GET.get("part") != "live":
            return self.show(**more)
        response = self.show(self.part, frame="web/part.html", **more)
        response.headers["X-Dockmesh-Part"] = "live"
        return response


class DetailPage(LivePart):
    """One thing."""


class ListPage(LivePart):
    """Many things, as the address has them searched, filtered, sorted and paged. Its template extends `web/list.html`."""

    heading: str = ""
    """The title, where it isn't the breadcrumb's."""
    lead: str = ""
    """A sentence below it."""
    queryset: QuerySet[Any]
    columns: Sequence[Column] = ()
    default_sort: str = ""
    ties: Sequence[str] = ()
    """The fields by which rows stand that are alike in the sorted column."""
    filters: Sequence[Filter] = ()
    search: Sequence[str] = ()
    """The fields that the text of the search box is looked for in."""
    search_hint: str = ""
    """What the search box says while it is empty."""

    def rows(self) -> QuerySet[Any]:
        """All that could be listed."""
        return self.queryset.all()

    def shown_columns(self) -> Sequence[Column]:
        """Those that this visitor sees."""
        return self.columns

    def matching(self, text: str) -> Q:
        """What the search box finds."""
        return reduce(or_, (Q(**{f"{field}__icontains": text}) for field in self.search))

    @cached_property
    def table(self) -> Table:
        """The rows of the page that is asked for."""
        table = Table(
            self.request.GET,
            columns=self.shown_columns(),
            default_sort=self.default_sort,
            filters=self.filters,
            ties=self.ties,
            counted=self.rows(),
        )
        rows = table.narrowed(self.rows())
        if table.query:
            rows = rows.filter(self.matching(table.query))
        return table.show(self.ordered(table, rows))

    def ordered(self, table: Table, rows: QuerySet[Any]) -> Any:
        """These rows in the order that is asked for: a queryset, or what has a length and slices."""
        return table.ordered(rows)

    def shown(self) -> Iterable[Any]:
        """The rows of the page that is asked for, as the template takes them."""
        return self.table

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        words = {"heading": self.heading or self.title, "lead": self.lead, "search_hint": self.search_hint}
        return super().show(
            template,
            status=status,
            table=self.table,
            rows=self.shown(),
            is_live=bool(self.part),
            **words,
            **more,
        )


class ServicePage(Page):
    """What calls a service: of an `ObjectPage`, for its object. A page of this kind is one of those below."""

    service: Callable[..., Any]
    done: str = ""
    """What is said afterwards; `{object}` is the page's, `{result}` what the service answered."""
    next_route: str = ""
    """Of the page that comes next; without, the object's own page does."""
    result_route: str = ""
    """Of the page of what the service answered, where that comes next."""

    def caller(self) -> Mapping[str, Any]:
        """Who asks, as the services here want to know it."""
        return {"actor": self.principal.actor}

    def call(self, **arguments: Any) -> Any:
        """Has the service do it, and says so; raises `DomainError` where it refuses."""
        result = type(self).service(**self.caller(), **self.subject(), **arguments)
        if self.done:
            messages.success(self.request, self.done.format(object=self.object, result=result))
        return result

    def next_url(self, result: Any) -> str:
        """The page that comes next."""
        if self.result_route:
            return reverse(self.result_route, args=[result.pk])
        return reverse(self.next_route) if self.next_route else self.url()


class FormPage(ServicePage):
    """A form over a service.

    What is wrong is told beside its field with all that was typed: by 400 where the form finds it, by the status of the
    refusal where the service does.
    """

    template = "web/form.html"
    form_class: type[forms.Form]
    heading: str = ""
    """The title, where it isn't made of the breadcrumb's and the object's name. Here and below `{object}` is the page's."""
    lead: str = ""
    """A sentence below it."""
    action_label: str = "Save"
    """What the button says; without, the title."""
    not_kept: Sequence[str] = ()
    """Fields that hold secrets, besides passwords: those do not come back after a lost session."""

    def authorise(self, permission: str) -> HttpResponseBase | None:
        """Where the session ended before the form was sent, what was typed goes through sign-in."""
        refused = super().authorise(permission)
        if refused is None or not set(self.request.POST) - {"csrfmiddlewaretoken"}:
            return refused
        sign_in: Callable[[HttpRequest, str], HttpResponseBase] = import_string(settings.PAGE_SIGN_IN)
        return sign_in(self.request, self.kept_of(self.request))

    @classmethod
    def kept_of(cls, request: HttpRequest) -> str:
        """What was posted, as `keptforms` has it, without secrets."""
        fields = getattr(cls, "form_class", forms.Form).base_fields
        secret = {name for name, each in fields.items() if isinstance(each.widget, forms.PasswordInput)}
        return keptforms.pack(request, without=secret | set(cls.not_kept))

    @cached_property
    def posted(self) -> QueryDict | None:
        """What was typed: posted now, or sent after the session had ended and kept since then."""
        if self.request.method == "POST":
            return self.request.POST
        kept = keptforms.take(self.request) if self.request.method == "GET" else None
        if kept is not None:
            messages.warning(
                self.request,
                "You are signed in again. Nothing was sent yet: look over what you typed, type anew what is secret, and"
                " send it.",
            )
        return kept

    def form_options(self) -> Mapping[str, Any]:
        """What the form is made with: of a `ChangeForm`, what there is to change."""
        if self.object is not None and issubclass(self.form_class, ChangeForm):
            return {"initial": self.form_class.initial_of(self.object)}
        return {}

    def form(self) -> forms.Form:
        """The form, with what was posted in it."""
        return self.form_class(self.posted, **self.form_options())

    def arguments(self, form: Any) -> Mapping[str, Any]:
        """What the service is given: what was typed; of an object that there was, what was changed."""
        if self.object is not None and isinstance(form, ChangeForm):
            return form.changes()
        return dict(form.cleaned_data)

    def save(self, form: Any) -> HttpResponseBase:
        """Has the service do it, and leads on; raises `DomainError` where it refuses."""
        return redirect(self.next_url(self.call(**self.arguments(form))))

    def back_url(self) -> str:
        """Where "Cancel" leads."""
        if self.object is not None:
            return self.url()
        return reverse(self.parents[-1][1]) if self.parents else ""

    def headline(self) -> str:
        """The page's own title."""
        if self.heading:
            return self.heading.format(object=self.object)
        return self.title if self.object is None else f"{self.title} {self.object_name}"

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        words = {
            "heading": self.headline(),
            "lead": self.lead.format(object=self.object),
            "action_label": self.action_label or self.title,
            "back_url": self.back_url(),
        }
        return super().show(template, status=status, **words, **more)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The form as it is before anybody typed."""
        return self.show(form=self.form())

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Does it, or tells at the form why not."""
        form = self.form()
        if not form.is_valid():
            lead_to_fault(form)
            return self.show(form=form, status=400)
        try:
            return self.save(form)
        except DomainError as error:
            add_refusal(form, error)
            lead_to_fault(form)
            return self.show(form=form, status=error.status)


class ConfirmPage(ObjectPage, FormPage):
    """Names what is about to be acted on, and acts once its name was typed."""

    template = "web/confirm.html"
    form_class: type[ConfirmForm] = ConfirmForm
    not_kept = ("name",)
    consequences: Sequence[str] = ()
    """In sentences."""
    action_label = ""

    def headline(self) -> str:
        return self.heading.format(object=self.object) or self.title

    def asked(self) -> tuple[str, str]:
        """What has to be named: its kind, and the name that has to be typed."""
        return self.kind, self.object_name

    def told(self) -> Sequence[str]:
        """What comes of it, in sentences."""
        return [sentence.format(object=self.object) for sentence in self.consequences]

    def form_options(self) -> Mapping[str, Any]:
        """The name that has to be typed."""
        return {"expected": self.asked()[1]}

    def arguments(self, form: Any) -> Mapping[str, Any]:
        """What was asked besides the name."""
        return {name: value for name, value in form.cleaned_data.items() if name != "name"}

    def context(self) -> Mapping[str, Any]:
        """The question."""
        kind, name = self.asked()
        return {"object_kind": kind, "object_name": name, "consequences": self.told()}


def page_of_button(request: HttpRequest) -> str:
    """The path of the page on which a button was pressed; empty where that is none of ours."""
    came_from = urlsplit(request.META.get("HTTP_REFERER", ""))
    return came_from.path if came_from.netloc == request.get_host() else ""


class Action(ServicePage):
    """What a button does that asks nothing: a POST, after which a page tells of it."""

    http_method_names = ["post"]

    def authorise(self, permission: str) -> HttpResponseBase | None:
        """By sign-in back to the page of the button; there is none at its own address."""
        refused = super().authorise(permission)
        return redirect_to_login(page_of_button(self.request)) if refused is not None else None

    def act(self) -> HttpResponseBase:
        """Has the service do it, and leads on; raises `DomainError` where it refuses."""
        return redirect(self.next_url(self.call()))

    def back_url(self) -> str:
        """Where a refusal is told."""
        return reverse(self.next_route) if self.next_route else self.url()

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Does it, or tells on the page of the button why not."""
        try:
            return self.act()
        except NotFound:
            raise Http404 from None
        except DomainError as error:
            messages.error(request, error.detail)
            return redirect(self.back_url())
