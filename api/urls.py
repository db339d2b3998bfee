"""The routes of the management API. A URL tells the file: its noun is the name of the module."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter

from . import (
    acceptances,
    cleanup,
    deletions,
    doctor,
    events,
    garbage_collection,
    images,
    issuers,
    keys,
    manifests,
    members,
    notifications,
    organizations,
    projects,
    repositories,
    root,
    scans,
    schema,
    search,
    service_accounts,
    tag_rules,
    tags,
    trust_rules,
    uploads,
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


def _accounts(of: str = "") -> list[URLPattern | URLResolver]:
    """The routes of service accounts; ``of``: what the names of an organization's begin with."""
    one: list[URLPattern | URLResolver] = [
        path("", service_accounts.ServiceAccountView.as_view(), name=f"{of}service_account"),
        path("/restore", service_accounts.RestoreView.as_view(), name=f"{of}service_account_restore"),
        path("/keys", keys.AccountKeysView.as_view(), name=f"{of}service_account_keys"),
        path("/trust-rules", trust_rules.TrustRulesView.as_view(), name=f"{of}trust_rules"),
        path("/trust-rules/try", trust_rules.TryView.as_view(), name=f"{of}trust_rules_try"),
        path("/trust-rules/<int:rule>", trust_rules.TrustRuleView.as_view(), name=f"{of}trust_rule"),
        path("/trust-rules/<int:rule>/restore", trust_rules.RestoreView.as_view(), name=f"{of}trust_rule_restore"),
        path("/trust-rules/<int:rule>/unpin", trust_rules.UnpinView.as_view(), name=f"{of}trust_rule_unpin"),
        path("/sessions", trust_rules.SessionsView.as_view(), name=f"{of}sessions"),
        path("/sessions/<str:identifier>", trust_rules.SessionView.as_view(), name=f"{of}session"),
    ]
    return [
        path("/service-accounts", service_accounts.ServiceAccountsView.as_view(), name=f"{of}service_accounts"),
        path("/service-accounts/<str:account>", include(one)),
    ]


def _keys(of: str) -> list[URLPattern | URLResolver]:
    """The routes of keys that can act in a project or organization; ``of``: what their names begin with."""
    return [
        path("/keys", keys.OwnerKeysView.as_view(), name=f"{of}_keys"),
        path("/keys/<str:identifier>", keys.OwnerKeyView.as_view(), name=f"{of}_key"),
        path("/keys/<str:identifier>/restore", keys.OwnerKeyRestoreView.as_view(), name=f"{of}_key_restore"),
        path("/keys/<str:identifier>/rotate", keys.RotateView.as_view(), name=f"{of}_key_rotate"),
        path("/keys/<str:identifier>/end-former", keys.EndFormerView.as_view(), name=f"{of}_key_end_former"),
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
    *_accounts(),
    *_keys("project"),
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

_organization: list[URLPattern | URLResolver] = [
    path("", organizations.OrganizationView.as_view(), name="organization"),
    path("/people", organizations.PeopleView.as_view(), name="people"),
    path("/people/<str:email>", organizations.PersonView.as_view(), name="person"),
    path("/invitations", organizations.InvitationsView.as_view(), name="invitations"),
    path("/invitations/<str:email>", organizations.InvitationView.as_view(), name="invitation"),
    path("/events", organizations.OrganizationEventsView.as_view(), name="organization_events"),
    path("/events/<int:event>/undo", organizations.OrganizationEventUndoView.as_view(), name="organization_event_undo"),
    *_accounts("organization_"),
    *_keys("organization"),
    path("/issuers", issuers.IssuersView.as_view(), name="issuers"),
    path("/issuers/<int:issuer>", issuers.IssuerView.as_view(), name="issuer"),
    path("/issuers/<int:issuer>/keys", issuers.IssuerKeysView.as_view(), name="issuer_keys"),
    path("/issuers/<int:issuer>/fetch", issuers.IssuerFetchView.as_view(), name="issuer_fetch"),
]

urlpatterns = [
    path("v1/", root.RootView.as_view(), name="root"),
    path("v1/openapi.json", schema.openapi, name="openapi"),
    path("v1/docs", schema.docs, name="docs"),
    path("v1/search", search.SearchView.as_view(), name="search"),
    path("v1/doctor", doctor.DoctorView.as_view(), name="doctor"),
    path("v1/uploads", uploads.UploadsView.as_view(), name="uploads"),
    path("v1/uploads/<uuid:upload>", uploads.UploadView.as_view(), name="upload"),
    path("v1/organizations", organizations.OrganizationsView.as_view(), name="organizations"),
    path("v1/organizations/<str:organization>", include(_organization)),
    path("v1/keys", keys.KeysView.as_view(), name="keys"),
    path("v1/keys/<str:identifier>", keys.KeyView.as_view(), name="key"),
    path("v1/keys/<str:identifier>/restore", keys.KeyRestoreView.as_view(), name="key_restore"),
    path("v1/projects", projects.ProjectsView.as_view(), name="projects"),
    path("v1/projects/<str:project>", include(_project)),
]
