"""The addresses of the web room."""

from django.urls import path

from dockmesh.web import account_views, apidocs, views

app_name = "web"

urlpatterns = [
    path("", views.Overview.as_view(), name="overview"),
    path("sign-in/", account_views.SignIn.as_view(), name="sign-in"),
    path("sign-out/", account_views.sign_out, name="sign-out"),
    path("password/", account_views.Password.as_view(), name="password"),
    path("api/v1/schema", apidocs.SchemaView.as_view(), name="api-schema"),
    path("api/v1/docs", apidocs.docs, name="api-docs"),
    path("api/v1/docs/<slug:section>", apidocs.docs, name="api-section"),
    path("theme/", account_views.choose_theme, name="theme"),
    path("favicon.ico", account_views.favicon, name="favicon"),
    path("setup/<str:code>/", account_views.Setup.as_view(), name="setup"),
]
