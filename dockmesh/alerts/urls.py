"""The addresses of the alerts room's pages."""

from django.urls import path

from dockmesh.alerts import views

app_name = "alerts"

urlpatterns = [
    path("alerts/", views.AlertList.as_view(), name="alerts"),
    path("alerts/<int:pk>/", views.AlertDetail.as_view(), name="alert"),
    path("alerts/rules/", views.RuleList.as_view(), name="rules"),
    path("alerts/rules/new/", views.RuleAdd.as_view(), name="rule-add"),
    path("alerts/rules/recommended/", views.RulesRecommended.as_view(), name="rules-recommended"),
    path("alerts/rules/<int:pk>/", views.RuleDetail.as_view(), name="rule"),
    path("alerts/rules/<int:pk>/change/", views.RuleChange.as_view(), name="rule-change"),
    path("alerts/rules/<int:pk>/remove/", views.RuleRemove.as_view(), name="rule-remove"),
    path("alerts/silences/", views.SilenceList.as_view(), name="silences"),
    path("alerts/silences/new/", views.SilenceAdd.as_view(), name="silence-add"),
    path("alerts/silences/<int:pk>/end/", views.SilenceEnd.as_view(), name="silence-end"),
    path("alerts/channels/", views.ChannelList.as_view(), name="channels"),
    path("alerts/channels/new/", views.ChannelAdd.as_view(), name="channel-add"),
    path("alerts/channels/<int:pk>/", views.ChannelChange.as_view(), name="channel-change"),
    path("alerts/channels/<int:pk>/test/", views.ChannelTest.as_view(), name="channel-test"),
    path("alerts/channels/<int:pk>/remove/", views.ChannelRemove.as_view(), name="channel-remove"),
]
