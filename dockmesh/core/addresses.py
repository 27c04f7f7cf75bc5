"""Addresses of the server itself, which may be reached below a path: DOCKMESH_BASE_URL=https://example.com/dockmesh.

Proxies differ in whether they take that path off a request. So a request is taken with it and without; nothing behind
this sees a difference, and every address that the server gives has it.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix, reverse

TAKEN_OFF = "dockmesh.base_path_taken_off"
"""In a request's environment: the base path that its server has taken off already, else empty."""


def without_base_path(path: str, base_path: str) -> str:
    """The path of a request without that of DOCKMESH_BASE_URL, whether it came with it or not."""
    return path.removeprefix(base_path) if path.startswith(f"{base_path}/") else path


def page_path(route: str, *arguments: object) -> str:
    """The path of a page below DOCKMESH_BASE_URL, like `/hosts/1/`, whichever thread asks: for messages.

    Within a request `reverse` alone is right: it has the path of DOCKMESH_BASE_URL before it.
    """
    return "/" + reverse(route, args=arguments).removeprefix(get_script_prefix())


class BasePath:
    """Takes the path of DOCKMESH_BASE_URL off a request that has it, before anything else looks at the request.

    Once: a server that has done so says it in `TAKEN_OFF`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        base_path = settings.DOCKMESH_BASE_PATH
        if base_path and not request.META.get(TAKEN_OFF):
            if request.path_info == base_path:
                return HttpResponseRedirect(f"{base_path}/")
            request.path_info = without_base_path(request.path_info, base_path)
            request.path = f"{base_path}{request.path_info}"
        return self._get_response(request)
