"""The REST addresses of stacks and deploys, below `/api/v1/`."""

from django.urls import path

from dockmesh.deploys import api

urlpatterns = [
    path("stacks", api.StacksView.as_view()),
    path("stacks/<int:pk>", api.StackView.as_view()),
    path("stacks/<int:pk>/deploy", api.StackDeployView.as_view()),
    path("stacks/<int:pk>/preview", api.StackPreviewView.as_view()),
    path("stacks/<int:pk>/stop", api.StackStopView.as_view()),
    path("stacks/<int:pk>/restart", api.StackRestartView.as_view()),
    path("stacks/<int:pk>/validate", api.StackValidateView.as_view()),
    path("stacks/<int:pk>/survey", api.StackSurveyView.as_view()),
    path("stacks/<int:pk>/adopt", api.StackAdoptView.as_view()),
    path("deploys", api.DeploysView.as_view()),
    path("deploys/<int:pk>", api.DeployView.as_view()),
    path("deploys/<int:pk>/cancel", api.DeployCancelView.as_view()),
    path("deploys/<int:pk>/rollback", api.DeployRollbackView.as_view()),
]
