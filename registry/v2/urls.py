"""Routes of the registry API. Names have slashes, so a route matches the text after the name; the last is the 404.

They are tried in order: the most frequent ones come first, and uploads before the blob that could have their name.
"""

from django.urls import URLPattern, URLResolver, include, path, re_path

from .base import UnknownView
from .blobs import BlobView
from .catalog import CatalogView, RootView
from .diagnostics import DiagnosticsView
from .exchange import ExchangeView
from .manifests import ManifestView
from .referrers import ReferrersView
from .tags import TagsView
from .token import TokenView
from .uploads import UploadSessionView, UploadsView

app_name = "v2"

NAME = r"(?P<name>.+)"

urlpatterns = [
    re_path(rf"^/{NAME}/manifests/(?P<reference>[^/]+)$", ManifestView.as_view(), name="manifest"),
    re_path(rf"^/{NAME}/blobs/uploads/?$", UploadsView.as_view(), name="uploads"),
    re_path(rf"^/{NAME}/blobs/uploads/(?P<upload>[^/]+)$", UploadSessionView.as_view(), name="upload"),
    re_path(rf"^/{NAME}/blobs/(?P<digest>[^/]+)$", BlobView.as_view(), name="blob"),
    re_path(r"^/?$", RootView.as_view(), name="root"),
    re_path(r"^/_catalog$", CatalogView.as_view(), name="catalog"),
    re_path(r"^/_diagnostics/(?P<what>[a-z]+)$", DiagnosticsView.as_view(), name="diagnostics"),
    re_path(rf"^/{NAME}/tags/list$", TagsView.as_view(), name="tags"),
    re_path(rf"^/{NAME}/referrers/(?P<digest>[^/]+)$", ReferrersView.as_view(), name="referrers"),
    re_path(r"^/.*", UnknownView.as_view(), name="unknown"),
]

API: list[URLPattern | URLResolver] = [
    re_path(r"^v2(?=/|$)", include((urlpatterns, app_name))),
    path("token", TokenView.as_view(), name="token"),
    path("token/exchange", ExchangeView.as_view(), name="exchange"),
]
