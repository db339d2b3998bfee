"""The routes of the management API. A URL tells the file: its noun is the name of the module."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter

from . import (
    acceptances,
    cleanup,
    deletions,
    events,
    garbage_collection,
    images,
    keys,
    manifests,
    members,
    notifications,
    projects,
    repositories,
    root,
    scans,
    schema,
    search,
    tag_rules,
    tags,
)

app_name = "api"


class ImageConverter(StringConverter):
    """An image's name, slashes included, up to the ``-`` that ends it or the end of the address."""

    regex = r"[a-z0-9][a-z0-9._/-]*?(?=/-/|$)"


register_converter(ImageConverter, "api_image")

_image: list[URLPattern | URLResolver] = [
    path("tags", tags.TagsView.as_view(), name="tags"),
    path("tags/<str:tag>", tags.TagView.as_view(), name="tag"),
    path("tags/<str:tag>/history", tags.TagHistoryView.as_view(), name="tag_history"),
    path("manifests", manifests.ManifestsView.as_view(), name="manifests"),
    path("manifests/<str:digest>", manifests.ManifestView.as_view(), name="manifest"),
    path("manifests/<str:digest>/vulnerabilities", manifests.VulnerabilitiesView.as_view(), name="vulnerabilities"),
    path("manifests/<str:digest>/sbom", manifests.SbomView.as_view(), name="sbom"),
    path("manifests/<str:digest>/scans", manifests.ManifestScansView.as_view(), name="manifest_scans"),
]

_repository: list[URLPattern | URLResolver] = [
    path("", repositories.RepositoryView.as_view(), name="repository"),
    path("/images", images.ImagesView.as_view(), name="images"),
    path("/images/<api_image:image>/-/", include(_image)),
    path("/images/<api_image:image>", images.ImageView.as_view(), name="image"),
    path("/roles", members.GranteesView.as_view(), name="repository_roles"),
    path("/roles/<str:email>", members.GranteeView.as_view(), name="repository_role"),
    path("/tag-rules", tag_rules.RepositoryTagRulesView.as_view(), name="repository_tag_rules"),
    path("/tag-rules/preview", tag_rules.RepositoryTagRulesPreviewView.as_view(), name="repository_tag_rules_preview"),
    path("/cleanup-policy", cleanup.PolicyView.as_view(), name="cleanup_policy"),
    path("/cleanup-policy/preview", cleanup.PreviewView.as_view(), name="cleanup_preview"),
    path("/cleanup-runs", cleanup.RunsView.as_view(), name="cleanup_runs"),
    path("/cleanup-runs/<int:run>", cleanup.RunView.as_view(), name="cleanup_run"),
    path("/scans", scans.RepositoryScansView.as_view(), name="repository_scans"),
    path("/openvex", acceptances.VexView.as_view(), name="openvex"),
]

_project: list[URLPattern | URLResolver] = [
    path("", projects.ProjectView.as_view(), name="project"),
    path("/usage", projects.UsageView.as_view(), name="usage"),
    path("/repositories", repositories.RepositoriesView.as_view(), name="repositories"),
    path("/repositories/<str:repository>", include(_repository)),
    path("/tag-rules", tag_rules.TagRulesView.as_view(), name="tag_rules"),
    path("/tag-rules/preview", tag_rules.TagRulesPreviewView.as_view(), name="tag_rules_preview"),
    path("/members", members.MembersView.as_view(), name="members"),
    path("/members/<str:email>", members.MemberView.as_view(), name="member"),
    path("/keys", keys.ProjectKeysView.as_view(), name="project_keys"),
    path("/keys/<str:identifier>", keys.ProjectKeyView.as_view(), name="project_key"),
    path("/keys/<str:identifier>/restore", keys.ProjectKeyRestoreView.as_view(), name="project_key_restore"),
    path("/scans", scans.ScansView.as_view(), name="scans"),
    path("/scans/<int:scan>", scans.ScanView.as_view(), name="scan"),
    path("/acceptances", acceptances.AcceptancesView.as_view(), name="acceptances"),
    path("/acceptances/<int:acceptance>", acceptances.AcceptanceView.as_view(), name="acceptance"),
    path("/notifications", notifications.NotificationsView.as_view(), name="notifications"),
    path("/notifications/<int:notification>", notifications.NotificationView.as_view(), name="notification"),
    path("/notifications/<int:notification>/test", notifications.TestView.as_view(), name="notification_test"),
    path("/notifications/<int:notification>/secret", notifications.SecretView.as_view(), name="notification_secret"),
    path("/notifications/<int:notification>/deliveries", notifications.DeliveriesView.as_view(), name="deliveries"),
    path(
        "/notifications/<int:notification>/deliveries/<int:delivery>/again",
        notifications.AgainView.as_view(),
        name="delivery_again",
    ),
    path("/deletions", deletions.DeletionsView.as_view(), name="deletions"),
    path("/deletions/<int:deletion>", deletions.DeletionView.as_view(), name="deletion"),
    path("/deletions/<int:deletion>/restore", deletions.RestoreView.as_view(), name="restore"),
    path("/events", events.EventsView.as_view(), name="events"),
    path("/events/<int:event>/undo", events.EventUndoView.as_view(), name="event_undo"),
    path("/changes", events.ChangesView.as_view(), name="changes"),
    path("/undo", events.UndoView.as_view(), name="undo"),
    path("/garbage-collections", garbage_collection.CollectionsView.as_view(), name="garbage_collections"),
    path("/garbage-collections/<int:run>", garbage_collection.CollectionView.as_view(), name="garbage_collection"),
    path(
        "/garbage-collections/<int:run>/stop",
        garbage_collection.CollectionStopView.as_view(),
        name="garbage_collection_stop",
    ),
]

urlpatterns = [
    path("v1/", root.RootView.as_view(), name="root"),
    path("v1/openapi.json", schema.openapi, name="openapi"),
    path("v1/docs", schema.docs, name="docs"),
    path("v1/search", search.SearchView.as_view(), name="search"),
    path("v1/keys", keys.KeysView.as_view(), name="keys"),
    path("v1/keys/<str:identifier>", keys.KeyView.as_view(), name="key"),
    path("v1/keys/<str:identifier>/restore", keys.KeyRestoreView.as_view(), name="key_restore"),
    path("v1/projects", projects.ProjectsView.as_view(), name="projects"),
    path("v1/projects/<str:project>", include(_project)),
]
