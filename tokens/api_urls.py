"""The addresses of the REST API of tokens and roles."""

from dockmesh.core.viewsets import Router
from tokens import api

urlpatterns = Router({"tokens": api.TokenViewSet, "roles": api.RoleViewSet}).urls
