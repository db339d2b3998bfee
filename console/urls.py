"""The console's pages. ``-`` ends a name: no repository or image has such a part."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter

from .views import (
    appearance,
    cleanup,
    collection,
    digests,
    history,
    home,
    images,
    invitations,
    keys,
    members,
    notices,
    organizations,
    profile,
    projects,
    recovery,
    repositories,
    scans,
    search,
    signing_in,
    tags,
    uploads,
    vulnerabilities,
)

app_name = "console"


class ImageConverter(StringConverter):
    """An image's name, slashes included, up to the ``-`` that ends it or the end of the address."""

    regex = r"[a-z0-9][a-z0-9._/-]*?(?=/-/|/$)"


register_converter(ImageConverter, "image")

_image: list[URLPattern | URLResolver] = [
    path("-/untagged", images.untagged, name="untagged"),
    path("-/settings", images.settings, name="image_settings"),
    path("-/commands", images.commands, name="image_commands"),
    path("-/tag-history", tags.history, name="tag_history"),
    path("-/history", history.show, name="image_history"),
    path("-/history.csv", history.download, name="image_history_csv"),
    path("-/recovery", recovery.show, name="image_recovery"),
    path("-/tags/add", tags.add, name="tag_add"),
    path("-/tags/delete", tags.delete, name="tags_delete"),
    path("-/untagged/delete", digests.delete_many, name="digests_delete"),
    path("-/manifests/<str:reference>", digests.show, name="manifest"),
    path("-/manifests/<str:reference>/delete", digests.delete, name="manifest_delete"),
    path("-/manifests/<str:reference>/vulnerabilities", vulnerabilities.show, name="vulnerabilities"),
    path(
        "-/manifests/<str:reference>/vulnerabilities/compare", vulnerabilities.compare, name="vulnerabilities_compare"
    ),
    path("-/manifests/<str:reference>/vulnerabilities/accept", vulnerabilities.accept, name="vulnerability_accept"),
    path("-/manifests/<str:reference>/vulnerabilities.csv", vulnerabilities.download_csv, name="vulnerabilities_csv"),
    path(
        "-/manifests/<str:reference>/vulnerabilities.json", vulnerabilities.download_json, name="vulnerabilities_json"
    ),
    path("-/manifests/<str:reference>/sbom", vulnerabilities.download_sbom, name="sbom"),
    path("-/delete", images.delete, name="image_delete"),
    path("", images.tags, name="image"),
]

_repository: list[URLPattern | URLResolver] = [
    path("-/settings", repositories.settings, name="repository_settings"),
    path("-/permissions", repositories.permissions, name="permissions"),
    path("-/commands", repositories.commands, name="repository_commands"),
    path("-/history", history.show, name="repository_history"),
    path("-/history.csv", history.download, name="repository_history_csv"),
    path("-/recovery", recovery.show, name="repository_recovery"),
    path("-/cleanup", cleanup.show, name="cleanup"),
    path("-/cleanup/runs/<int:run>", cleanup.run, name="cleanup_run"),
    path("-/scan", scans.scan_repository, name="repository_scan"),
    path("-/openvex.json", vulnerabilities.download_vex, name="openvex"),
    path("-/notices", notices.listed, name="repository_notices"),
    path("-/notices/new", notices.repository_create, name="repository_notice_new"),
    path("-/notices/<int:subscription>", notices.repository_show, name="repository_notice"),
    path("-/notices/<int:subscription>/edit", notices.repository_edit, name="repository_notice_edit"),
    path("-/notices/<int:subscription>/<int:delivery>", notices.repository_delivery, name="repository_delivery"),
    path("-/delete", repositories.delete, name="repository_delete"),
    path("-/images/delete", repositories.delete_images, name="images_delete"),
    path("", repositories.show, name="repository"),
    path("<image:image>/", include(_image)),
]

_project: list[URLPattern | URLResolver] = [
    path("", projects.overview, name="overview"),
    path("repositories/", repositories.listed, name="repositories"),
    path("repositories/new", repositories.create, name="repository_new"),
    path("repositories/<str:repository>/", include(_repository)),
    path("scans", scans.show, name="scans"),
    path("scans/log", scans.log, name="scans_log"),
    path("scans/acceptances", scans.acceptances, name="acceptances"),
    path("history", history.show, name="history"),
    path("history.csv", history.download, name="history_csv"),
    path("history/undo", history.undo_all, name="undo_all"),
    path("recovery", recovery.show, name="recovery"),
    path("recovery/restore", recovery.restore, name="undo"),
    path("recovery/<int:deletion>/purge", recovery.purge, name="purge"),
    path("recovery/<int:deletion>/hold", recovery.hold, name="hold"),
    path("collection", collection.show, name="collection"),
    path("members", members.show, name="members"),
    path("keys", members.keys, name="project_keys"),
    path("keys/<str:identifier>", members.key, name="project_key"),
    path("notices", notices.listed, name="notices"),
    path("notices/new", notices.create, name="notice_new"),
    path("notices/<int:subscription>", notices.show, name="notice"),
    path("notices/<int:subscription>/edit", notices.edit, name="notice_edit"),
    path("notices/<int:subscription>/<int:delivery>", notices.delivery, name="delivery"),
    path("usage", projects.usage, name="usage"),
    path("settings", projects.settings, name="project_settings"),
]

urlpatterns = [
    path("", home.show, name="home"),
    path("search", search.show, name="search"),
    path("sign-in", signing_in.sign_in, name="sign_in"),
    path("sign-out", signing_in.sign_out, name="sign_out"),
    path("password/forgotten", signing_in.forgotten, name="forgotten"),
    path("password/new/<str:uid>/<str:token>", signing_in.open_link, name="password_link"),
    path("password/new", signing_in.new_password, name="new_password"),
    path("invitations/<str:token>", invitations.open_link, name="invitation_link"),
    path("invitation", invitations.show, name="invitation"),
    path("notices/unsubscribe/<str:token>", notices.unsubscribe, name="unsubscribe"),
    path("notices/confirm/<str:token>", notices.confirm, name="confirm_notices"),
    path("language", appearance.language, name="language"),
    path("appearance", appearance.change, name="appearance"),
    path("profile", profile.show, name="profile"),
    path("profile/password", profile.password, name="password"),
    path("profile/sessions", profile.sessions, name="sessions"),
    path("profile/uploads", uploads.show, name="uploads"),
    path("profile/activity", profile.activity, name="activity"),
    path("profile/keys", keys.show, name="keys"),
    path("profile/keys/new", keys.create, name="key_new"),
    path("organizations/<str:organization>/", organizations.show, name="organization"),
    path("organizations/<str:organization>/audit", organizations.audit_log, name="audit"),
    path("organizations/<str:organization>/audit.csv", organizations.audit_csv, name="audit_csv"),
    path("organizations/<str:organization>/keys", organizations.keys, name="organization_keys"),
    path("organizations/<str:organization>/keys/<str:identifier>", organizations.key, name="organization_key"),
    path("organizations/<str:organization>/projects/new", organizations.create_project, name="project_new"),
    path("projects/<str:project>/", include(_project)),
]
