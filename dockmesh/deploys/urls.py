"""The addresses of the pages of stacks and deploys."""

from django.urls import path

from dockmesh.deploys import views

app_name = "deploys"

urlpatterns = [
    path("stacks/", views.StackList.as_view(), name="stacks"),
    path("stacks/new/", views.StackAdd.as_view(), name="stack-add"),
    path("stacks/<int:pk>/", views.StackDetail.as_view(), name="stack"),
    path("stacks/<int:pk>/change/", views.StackChange.as_view(), name="stack-change"),
    path("stacks/<int:pk>/adopt/", views.StackAdopt.as_view(), name="stack-adopt"),
    path("stacks/<int:pk>/survey/", views.StackSurvey.as_view(), name="stack-survey"),
    path("stacks/<int:pk>/operate/", views.StackOperate.as_view(), name="stack-operate"),
    path("stacks/<int:pk>/preview/", views.StackPreview.as_view(), name="stack-preview"),
    path("stacks/<int:pk>/stop/", views.StackStop.as_view(), name="stack-stop"),
    path("stacks/<int:pk>/remove/", views.StackRemove.as_view(), name="stack-remove"),
    path("deploys/", views.DeployList.as_view(), name="deploys"),
    path("deploys/<int:pk>/", views.DeployDetail.as_view(), name="deploy"),
    path("deploys/<int:pk>/cancel/", views.DeployCancel.as_view(), name="deploy-cancel"),
    path("deploys/<int:pk>/confirm/", views.DeployConfirm.as_view(), name="deploy-confirm"),
    path("deploys/<int:pk>/rollback/", views.DeployRollback.as_view(), name="deploy-rollback"),
]
