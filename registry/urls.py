"""The URLs of the whole house; other apps are named by string only.

The registry API is answered by ``registry.v2.handler``, the management API by ``api.handler``. Their routes are here
for ``reverse`` and for the log.
"""

from django.urls import include, path

from registry import health
from registry.v2.urls import API

handler400 = "registry.v2.errors.bad_request"
handler403 = "console.views.errors.forbidden"
handler404 = "console.views.errors.not_found"
handler500 = "registry.v2.errors.server_error"

urlpatterns = [
    *API,
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("api/", include("api.urls")),
    path("", include("console.urls")),
]
