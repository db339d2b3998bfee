"""The routes of the management API. A URL tells the file: its last noun is the name of the module."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter

from . import images, projects, repositories, root, schema, tags

app_name = "api"


class ImageConverter(StringConverter):
    """An image's name, slashes included, up to the ``-`` that ends it or the end of the address."""

    regex = r"[a-z0-9][a-z0-9._/-]*?(?=/-/|$)"


register_converter(ImageConverter, "api_image")

_image: list[URLPattern | URLResolver] = [
    path("tags", tags.TagsView.as_view(), name="tags"),
    path("tags/<str:tag>", tags.TagView.as_view(), name="tag"),
    path("tags/<str:tag>/history", tags.TagHistoryView.as_view(), name="tag_history"),
]

_repository: list[URLPattern | URLResolver] = [
    path("", repositories.RepositoryView.as_view(), name="repository"),
    path("/images", images.ImagesView.as_view(), name="images"),
    path("/images/<api_image:image>/-/", include(_image)),
    path("/images/<api_image:image>", images.ImageView.as_view(), name="image"),
]

_project: list[URLPattern | URLResolver] = [
    path("", projects.ProjectView.as_view(), name="project"),
    path("/usage", projects.UsageView.as_view(), name="usage"),
    path("/repositories", repositories.RepositoriesView.as_view(), name="repositories"),
    path("/repositories/<str:repository>", include(_repository)),
]

urlpatterns = [
    path("v1/", root.RootView.as_view(), name="root"),
    path("v1/openapi.json", schema.openapi, name="openapi"),
    path("v1/docs", schema.docs, name="docs"),
    path("v1/projects", projects.ProjectsView.as_view(), name="projects"),
    path("v1/projects/<str:project>", include(_project)),
]
