"""Addresses of the server's own pages, for messages that leave it."""

from django.urls import get_script_prefix, reverse


def page_path(route: str, *arguments: object) -> str:
    """The path of a page below DOCKMESH_BASE_URL, like `/hosts/1/`, whichever thread asks.

    Within a request `reverse` alone is right: it has the path of DOCKMESH_BASE_URL before it.
    """
    return "/" + reverse(route, args=arguments).removeprefix(get_script_prefix())
