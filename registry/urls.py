"""The URLs of the whole house; other apps are named by string only."""

from django.urls import include, path, re_path

from registry import health
from registry.v2.token import TokenView

handler400 = "registry.v2.errors.bad_request"
handler403 = "console.views.errors.forbidden"
handler404 = "console.views.errors.not_found"
handler500 = "registry.v2.errors.server_error"

urlpatterns = [
    re_path(r"^v2(?=/|$)", include("registry.v2.urls")),
    path("token", TokenView.as_view(), name="token"),
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("", include("console.urls")),
]
