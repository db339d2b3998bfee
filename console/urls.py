"""The console's pages. ``-`` ends a name: no repository or image has such a part."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter

from .views import (
    acceptances,
    audit_log,
    cleanup,
    compare,
    cves,
    doctor,
    garbage_collection,
    images,
    invitations,
    manifests,
    members,
    notifications,
    organizations,
    projects,
    public,
    repositories,
    scans,
    search,
    service_accounts,
    tag_rules,
    tags,
    trash,
    undo,
    uploads,
    vulnerabilities,
)
from .views.accounts import keys, password, profile, sessions, sign_in

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
    path("-/audit-log", audit_log.show, name="image_audit_log"),
    path("-/audit-log.csv", audit_log.download, name="image_audit_log_csv"),
    path("-/recovery", trash.show, name="image_recovery"),
    path("-/tags/add", tags.add, name="tag_add"),
    path("-/tags/delete", tags.delete, name="tags_delete"),
    path("-/untagged/delete", manifests.delete_many, name="manifests_delete"),
    path("-/manifests/<str:reference>", manifests.show, name="manifest"),
    path("-/manifests/<str:reference>/delete", manifests.delete, name="manifest_delete"),
    path("-/manifests/<str:reference>/vulnerabilities", vulnerabilities.show, name="vulnerabilities"),
    path("-/manifests/<str:reference>/compare", compare.show, name="compare"),
    path("-/manifests/<str:reference>/vulnerabilities/accept", acceptances.accept, name="vulnerability_accept"),
    path("-/manifests/<str:reference>/vulnerabilities.csv", vulnerabilities.download_csv, name="vulnerabilities_csv"),
    path(
        "-/manifests/<str:reference>/vulnerabilities.json", vulnerabilities.download_json, name="vulnerabilities_json"
    ),
    path("-/manifests/<str:reference>/sbom", vulnerabilities.download_sbom, name="sbom"),
    path("-/delete", images.delete, name="image_delete"),
    path("", images.show, name="image"),
]

_repository: list[URLPattern | URLResolver] = [
    path("-/settings", repositories.settings, name="repository_settings"),
    path("-/permissions", repositories.permissions, name="permissions"),
    path("-/permissions/add", repositories.grant, name="permission_add"),
    path("-/permissions/remove", repositories.end_grant, name="permission_remove"),
    path("-/commands", repositories.commands, name="repository_commands"),
    path("-/audit-log", audit_log.show, name="repository_audit_log"),
    path("-/audit-log.csv", audit_log.download, name="repository_audit_log_csv"),
    path("-/recovery", trash.show, name="repository_recovery"),
    path("-/cleanup", cleanup.show, name="cleanup"),
    path("-/cleanup/runs/<int:run>", cleanup.run, name="cleanup_run"),
    path("-/tag-rules", tag_rules.repository_show, name="repository_tag_rules"),
    path("-/tag-rules/new", tag_rules.repository_edit, {"number": 0}, name="repository_tag_rule_new"),
    path("-/tag-rules/<int:number>", tag_rules.repository_edit, name="repository_tag_rule"),
    path("-/scan", scans.scan_repository, name="repository_scan"),
    path("-/openvex.json", vulnerabilities.download_vex, name="openvex"),
    path("-/notifications", notifications.index, name="repository_notifications"),
    path("-/notifications/new", notifications.repository_create, name="repository_notification_new"),
    path("-/notifications/<int:subscription>", notifications.repository_show, name="repository_notification"),
    path(
        "-/notifications/<int:subscription>/secret",
        notifications.repository_secret,
        name="repository_notification_secret",
    ),
    path("-/notifications/<int:subscription>/edit", notifications.repository_edit, name="repository_notification_edit"),
    path(
        "-/notifications/<int:subscription>/<int:delivery>",
        notifications.repository_delivery,
        name="repository_delivery",
    ),
    path("-/delete", repositories.delete, name="repository_delete"),
    path("-/images/delete", images.delete_many, name="images_delete"),
    path("", repositories.show, name="repository"),
    path("<image:image>/", include(_image)),
]

_organization_accounts: list[URLPattern | URLResolver] = [
    path("", service_accounts.organization_index, name="organization_service_accounts"),
    path("-/new", service_accounts.organization_create, name="organization_service_account_new"),
    path("<str:account>", service_accounts.organization_show, name="organization_service_account"),
    path("<str:account>/edit", service_accounts.organization_edit, name="organization_service_account_edit"),
    path("<str:account>/delete", service_accounts.organization_delete, name="organization_service_account_delete"),
    path("<str:account>/keys/new", service_accounts.organization_new_key, name="organization_service_account_key_new"),
]

_project: list[URLPattern | URLResolver] = [
    path("", projects.overview, name="overview"),
    path("repositories/", repositories.index, name="repositories"),
    path("repositories/new", repositories.create, name="repository_new"),
    path("repositories/<str:repository>/", include(_repository)),
    path("images", images.index, name="images"),
    path("scans", scans.show, name="scans"),
    path("scans/log", scans.log, name="scans_log"),
    path("scans/acceptances", scans.acceptances, name="acceptances"),
    path("scans/acceptances/<int:acceptance>/withdraw", scans.withdraw, name="acceptance_withdraw"),
    path("audit-log", audit_log.show, name="audit_log"),
    path("audit-log.csv", audit_log.download, name="audit_log_csv"),
    path("audit-log/<int:event>/undo", undo.one, name="undo_event"),
    path("undo", undo.show, name="undo"),
    path("recovery", trash.show, name="recovery"),
    path("recovery/restore", trash.restore, name="restore"),
    path("recovery/<int:deletion>/purge", trash.purge, name="purge"),
    path("recovery/<int:deletion>/hold", trash.hold, name="hold"),
    path("garbage-collection", garbage_collection.show, name="garbage_collection"),
    path("members", members.index, name="members"),
    path("members/add", members.add, name="member_add"),
    path("members/remove", members.remove, name="member_remove"),
    path("service-accounts/", service_accounts.index, name="service_accounts"),
    path("service-accounts/-/new", service_accounts.create, name="service_account_new"),
    path("service-accounts/<str:account>", service_accounts.show, name="service_account"),
    path("service-accounts/<str:account>/edit", service_accounts.edit, name="service_account_edit"),
    path("service-accounts/<str:account>/delete", service_accounts.delete, name="service_account_delete"),
    path("service-accounts/<str:account>/keys/new", service_accounts.new_key, name="service_account_key_new"),
    path("keys", members.keys, name="project_keys"),
    path("keys/<str:identifier>", members.key, name="project_key"),
    path("keys/<str:identifier>/revoke", members.revoke_key, name="project_key_revoke"),
    path("keys/<str:identifier>/rotate", service_accounts.rotate, name="project_key_rotate"),
    path("notifications", notifications.index, name="notifications"),
    path("notifications/new", notifications.create, name="notification_new"),
    path("notifications/<int:subscription>", notifications.show, name="notification"),
    path("notifications/<int:subscription>/secret", notifications.secret, name="notification_secret"),
    path("notifications/<int:subscription>/edit", notifications.edit, name="notification_edit"),
    path("notifications/<int:subscription>/<int:delivery>", notifications.delivery, name="delivery"),
    path("usage", projects.usage, name="usage"),
    path("settings", projects.settings, name="project_settings"),
    path("tag-rules", tag_rules.show, name="tag_rules"),
    path("tag-rules/new", tag_rules.edit, {"number": 0}, name="tag_rule_new"),
    path("tag-rules/<int:number>", tag_rules.edit, name="tag_rule"),
]

urlpatterns = [
    path("", projects.home, name="home"),
    path("search", search.show, name="search"),
    path("search/suggestions", search.suggestions, name="suggestions"),
    path("cves/<path:name>.csv", cves.download, name="cve_csv"),
    path("cves/<path:name>", cves.show, name="cve"),
    path("doctor", doctor.show, name="doctor"),
    path("sign-in", sign_in.sign_in, name="sign_in"),
    path("sign-out", sign_in.sign_out, name="sign_out"),
    path("password/forgotten", password.forgotten, name="forgotten"),
    path("password/new/<str:uid>/<str:token>", password.open_link, name="password_link"),
    path("password/new", password.new_password, name="new_password"),
    path("invitations/<str:token>", invitations.open_link, name="invitation_link"),
    path("invitation", invitations.show, name="invitation"),
    path("notices/unsubscribe/<str:token>", notifications.unsubscribe, name="unsubscribe"),
    path("notices/confirm/<str:token>", notifications.confirm, name="confirm_notifications"),
    path("language", profile.language, name="language"),
    path("appearance", profile.change, name="appearance"),
    path("profile", profile.show, name="profile"),
    path("profile/password", password.password, name="password"),
    path("profile/sessions", sessions.sessions, name="sessions"),
    path("profile/uploads", uploads.index, name="uploads"),
    path("profile/activity", profile.activity, name="activity"),
    path("profile/keys", keys.show, name="keys"),
    path("profile/keys/revoke", keys.revoke, name="key_revoke"),
    path("profile/keys/new", keys.create, name="key_new"),
    path("organizations/<str:organization>/", organizations.show, name="organization"),
    path("organizations/<str:organization>/invite", organizations.invite, name="invite"),
    path("organizations/<str:organization>/person", organizations.person, name="person"),
    path("organizations/<str:organization>/remove", organizations.remove, name="organization_remove"),
    path("organizations/<str:organization>/undo/<int:event>", organizations.undo_event, name="organization_undo_event"),
    path("organizations/<str:organization>/audit-log", audit_log.organization, name="organization_audit_log"),
    path(
        "organizations/<str:organization>/audit-log.csv", audit_log.organization_csv, name="organization_audit_log_csv"
    ),
    path("organizations/<str:organization>/service-accounts/", include(_organization_accounts)),
    path(
        "organizations/<str:organization>/keys/<str:identifier>/rotate",
        service_accounts.organization_rotate,
        name="organization_key_rotate",
    ),
    path("organizations/<str:organization>/keys", organizations.keys, name="organization_keys"),
    path("organizations/<str:organization>/keys/<str:identifier>", organizations.key, name="organization_key"),
    path(
        "organizations/<str:organization>/keys/<str:identifier>/revoke",
        organizations.revoke_key,
        name="organization_key_revoke",
    ),
    path("organizations/<str:organization>/projects/new", projects.create, name="project_new"),
    path("projects/<str:project>/", include(_project)),
    path("public/<str:project>/<str:repository>/", public.repository, name="public_repository"),
    path("public/<str:project>/<str:repository>/<image:image>/", public.image, name="public_image"),
]
