"""The REST addresses of stacks and deploys, below `/api/v1/`."""

from dockmesh.core.viewsets import Router
from dockmesh.deploys import api

urlpatterns = Router({"stacks": api.StackViewSet, "deploys": api.DeployViewSet}).urls
