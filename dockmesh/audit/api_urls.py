"""The addresses of the audit log's REST API."""

from dockmesh.audit import api
from dockmesh.core.viewsets import Router

urlpatterns = Router({"audit": api.EntryViewSet}).urls
