"""Addresses below /api/v1/."""

from dockmesh.alerts import api
from dockmesh.core.viewsets import Router

urlpatterns = Router(
    {
        "alert-rules": api.AlertRuleViewSet,
        "alerts": api.AlertViewSet,
        "alert-channels": api.ChannelViewSet,
        "silences": api.SilenceViewSet,
    }
).urls
