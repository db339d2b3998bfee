"""Tables of organizations, projects, users, memberships, access keys and tokens.

Organization ──< Project ──< ProjectMembership >── User ──< AccessKey ──< RefreshToken
                                                                └── FormerSecret
      ├──< OrganizationMembership >────────────────┼──< ConsoleSession
      ├──< Invitation, AuditEvent >────────────────┤
      └──< Issuer ──< TrustRule >──────────────────┘
                          └──< FederatedSession ── AccessKey
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

if TYPE_CHECKING:
    from datetime import datetime


class Organization(models.Model):
    """A company or team; its people can be given roles in its projects."""

    name = models.CharField(max_length=64, unique=True)
    display_name = models.CharField(max_length=100, blank=True)
    size_limit = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="stored bytes of all projects; NULL: any"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.display_name or self.name


class Project(models.Model):
    """Holds repositories. ``name`` is its unique ID, a part of every image URI that never changes.

    ``tag_rules``: the rules for the tags of all its repositories (``registry.tag_rules``).
    ``create_on_push``: a push to a repository that does not exist creates it, with the settings ``new_…``.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="projects")
    name = models.CharField(max_length=40, unique=True)
    display_name = models.CharField(max_length=100, blank=True)
    description = models.CharField(max_length=200, blank=True)
    repository_limit = models.PositiveIntegerField(default=1_000)
    image_limit = models.PositiveIntegerField(default=10_000, help_text="images in one repository")
    tag_limit = models.PositiveIntegerField(default=1_000, help_text="tags of one image")
    digest_limit = models.PositiveIntegerField(default=10_000, help_text="digests of one image, with those in Recovery")
    size_limit = models.PositiveBigIntegerField(null=True, blank=True, help_text="stored bytes; NULL: any number")
    tag_rules = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    create_on_push = models.BooleanField(default=False, db_default=False)
    new_is_public = models.BooleanField(default=False, db_default=False)
    new_auto_scan = models.BooleanField(default=True, db_default=True)
    new_tag_overwrite = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class UserKind(models.TextChoices):
    """Person: signs in to the console, gets mails. Service: only its access keys act (registry.service_accounts)."""

    PERSON = "person"
    SERVICE = "service"


class UserManager(BaseUserManager["User"]):
    """Users are found by their e-mail address, in lower case."""

    def people(self) -> models.QuerySet[User]:
        """Those who can sign in, get mails and be found by address. Service accounts are not among them."""
        return self.filter(kind=UserKind.PERSON)

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Make a user; without a password they cannot sign in to the console until they set one."""
        user = self.model(email=email.lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> User:
        """Find a user by e-mail address, however it was typed."""
        return self.get(email=(username or "").lower())


class Theme(models.TextChoices):
    """How the console looks."""

    LIGHT = "light"
    DARK = "dark"


class User(AbstractBaseUser, PermissionsMixin):
    """A person or a service account. Django's own permissions and groups are not used: roles are (registry.access).

    ``is_superuser``: an operator of the installation, who may see the connection doctor. It gives no right in projects.

    The fields from ``organization`` on are those of a service account. ``project`` is None if it belongs to the whole
    organization. Its ``email`` names it in logs and is no address: its domain is reserved (RFC 2606). It has no
    OrganizationMembership, so it is no member or owner. ``deleted_at``: the row stays for the audit logs.
    """

    kind = models.CharField(
        max_length=7, choices=UserKind, default=UserKind.PERSON, db_default=UserKind.PERSON, editable=False
    )
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=100, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    language = models.CharField(max_length=10, blank=True, help_text="empty: what the browser asks for")
    time_zone = models.CharField(max_length=64, blank=True, help_text="empty: the browser's")
    browser_time_zone = models.CharField(
        max_length=64, blank=True, help_text="of the browser that the user used last, for mails"
    )
    theme = models.CharField(max_length=5, choices=Theme, blank=True, help_text="empty: what the browser asks for")
    reset_sent_at = models.DateTimeField(null=True, blank=True)
    resets_sent = models.PositiveSmallIntegerField(
        default=0, help_text="links for a new password, without a long pause"
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="service_accounts"
    )
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, related_name="service_accounts"
    )
    description = models.CharField(max_length=200, blank=True, db_default="")
    contacts = models.ManyToManyField("self", symmetrical=False, blank=True, related_name="+")
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="person_or_service_account",
                condition=Q(kind=UserKind.PERSON, organization=None, project=None, deleted_at=None)
                | Q(
                    kind=UserKind.SERVICE,
                    organization__isnull=False,
                    email__endswith=".invalid",
                    password__startswith=UNUSABLE_PASSWORD_PREFIX,
                    is_superuser=False,
                ),
            ),
            models.CheckConstraint(
                name="deleted_users_are_not_active", condition=Q(deleted_at=None) | Q(is_active=False)
            ),
        ]

    def __str__(self) -> str:
        return self.email

    @property
    def is_service(self) -> bool:
        """Whether this is a service account, not a person."""
        return self.kind == UserKind.SERVICE


class OrganizationRole(models.TextChoices):
    """Owner: all projects, users, creates projects. Member: may be given roles."""

    OWNER = "owner"
    MEMBER = "member"


class OrganizationMembership(models.Model):
    """A user belongs to an organization."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="organization_memberships")
    role = models.CharField(max_length=10, choices=OrganizationRole, default=OrganizationRole.MEMBER)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "organization"], name="one_membership_an_organization")
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.organization}"


class ProjectRole(models.TextChoices):
    """Admin and Member do everything in the project (members and roles: Admin only); Reader views and pulls."""

    ADMIN = "admin"
    MEMBER = "member"
    READER = "reader"


class RepositoryRole(models.TextChoices):
    """Member: pull and push. Viewer: pull. Kept as django-guardian's permissions (registry.repositories.set_role)."""

    MEMBER = "member"
    VIEWER = "viewer"


class ProjectMembership(models.Model):
    """A user has a role in a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="project_memberships")
    role = models.CharField(max_length=10, choices=ProjectRole)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "project"], name="one_role_a_project")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} in {self.project}"


class Invitation(models.Model):
    """An owner asks the holder of a mail address to join an organization. The row is deleted when the invitation ends.

    Addresses with and without an account are treated alike. ``token_hash`` is the hash of the token in the mail's link,
    empty until the mail is sent.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=10, choices=OrganizationRole, default=OrganizationRole.MEMBER)
    invited_by = models.CharField(max_length=254)
    token_hash = models.CharField(max_length=64, blank=True, db_index=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "email"], name="one_invitation_an_address")
        ]

    def __str__(self) -> str:
        return f"{self.email} is invited to {self.organization}"


class AccessKeyQuerySet(models.QuerySet["AccessKey"]):
    """Reads of access keys."""

    def alive(self) -> Self:
        """Keys that may be used now: not revoked, not expired, of an active user.

        Asks the database for the time (Now), so that prepared queries (registry.database.prepared) can hold it.
        """
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None, user__is_active=True)

    def lasting(self) -> Self:
        """Keys that people made, without those of sessions (FederatedSession)."""
        return self.filter(session=None)


class AccessKey(models.Model):
    """Credentials for docker login: ``identifier`` is the user name; the secret is stored as a keyed hash only.

    The limits, ``counts_pulls`` and ``management`` are given when the key is made and never change. ``actions``,
    ``repositories`` and ``networks`` are texts of ``accounts.limits``. ``pull_only``: the same as ``actions`` = "pull";
    versions that do not know ``actions`` read and write it.
    ``secret_hash``, ``secret_made_at`` (None: with the key) and ``last_used_*`` are of the newest secret.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="access_keys")
    name = models.CharField(max_length=64)
    identifier = models.CharField(max_length=32, unique=True)
    secret_hash = models.CharField(max_length=64)
    secret_made_at = models.DateTimeField(null=True, blank=True)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    pull_only = models.BooleanField(default=False)
    actions = models.CharField(max_length=40, blank=True, db_default="")
    repositories = models.TextField(blank=True, db_default="")
    networks = models.TextField(blank=True, db_default="")
    counts_pulls = models.BooleanField(default=True, help_text="false: pulls by a scanner or mirror are no use")
    management = models.BooleanField(default=False, db_default=False, help_text="true: the management API takes it")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", help_text="may take it back"
    )
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_address = models.CharField(max_length=45, blank=True)
    last_used_client = models.CharField(max_length=200, blank=True)
    warnings_sent = models.PositiveSmallIntegerField(default=0, help_text="mails that said that it ends soon")
    form_id = models.UUIDField(null=True, blank=True, unique=True, help_text="a form that is sent twice makes one key")

    objects = AccessKeyQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["secret_hash"], name="keys_by_secret")]

    def __str__(self) -> str:
        return f"{self.name} ({self.identifier})"

    @property
    def state(self) -> str:
        """``alive``, ``revoked``, ``expired`` or ``inactive`` (the user is)."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= timezone.now():
            return "expired"
        return "alive" if self.user.is_active else "inactive"

    @property
    def only_actions(self) -> frozenset[str] | None:
        """The only actions that the key allows; None for all."""
        return frozenset((self.actions or ("pull" if self.pull_only else "")).split()) or None


class FormerSecret(models.Model):
    """The secret that a key had before its newest one; it works until ``ends_at``. A key has one at most."""

    key = models.OneToOneField(AccessKey, on_delete=models.CASCADE, related_name="former")
    secret_hash = models.CharField(max_length=64)
    made_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_address = models.CharField(max_length=45, blank=True)
    last_used_client = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["secret_hash"], name="former_secrets_by_secret")]

    def __str__(self) -> str:
        return f"former secret of {self.key}"

    @property
    def is_alive(self) -> bool:
        """Whether logins with it succeed, as long as its key is alive."""
        return self.ends_at > timezone.now()


class IdempotencyRecord(models.Model):
    """The answer to a request to the management API that had an Idempotency-Key (``name``), kept for a day.

    ``fingerprint``: the hash of method, path and body. ``status`` None: the request is at work. ``body``: the answer's
    JSON, without secrets.
    """

    key = models.ForeignKey(AccessKey, on_delete=models.CASCADE, related_name="+", db_index=False)
    name = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    location = models.CharField(max_length=500, blank=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["key", "name"], name="one_record_an_idempotency_key")]

    def __str__(self) -> str:
        return f"{self.name} of {self.key_id}"


class IssuerKind(models.TextChoices):
    """Who signs the ID tokens of an issuer; decides the claims that its trust rules know."""

    GITHUB = "github", "GitHub Actions"
    GITLAB = "gitlab", "GitLab CI"
    KUBERNETES = "kubernetes", "Kubernetes"
    GENERIC = "generic", "OpenID Connect"


class Issuer(models.Model):
    """An issuer of ID tokens that an organization trusts (accounts.issuers). ``url``: exactly the claim ``iss``.

    ``audience``: the claim ``aud`` that its tokens must have. ``keys``: the public keys, a list of JWKs.
    ``is_uploaded``: people give the keys, and nothing is fetched. Else they are fetched: ``fetched_at`` last with
    success, ``attempted_at`` last at all, and ``problem`` says why the last attempt failed. ``deleted_at``: the row
    stays for its rules and sessions.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="issuers")
    kind = models.CharField(max_length=10, choices=IssuerKind)
    url = models.CharField(max_length=255)
    audience = models.CharField(max_length=255)
    is_uploaded = models.BooleanField(default=False)
    keys = models.JSONField(default=list)
    fetched_at = models.DateTimeField(null=True, blank=True)
    attempted_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "url"], condition=Q(deleted_at=None), name="one_issuer_an_address"
            )
        ]
        indexes: ClassVar = [models.Index(fields=["url"], name="issuers_by_url")]

    def __str__(self) -> str:
        return self.url


class TrustRule(models.Model):
    """Which ID tokens of an issuer act as a service account, and how far (accounts.trust_rules).

    ``claims``: what the token must say, by names of fields of the issuer's kind. ``pinned``: the ids of repository,
    project or account in the first token that matched; later tokens must have the same. ``actions``, ``repositories``
    and ``networks`` limit the sessions as they limit an access key. ``lifetime``: seconds of a session.
    """

    account = models.ForeignKey(User, on_delete=models.CASCADE, related_name="trust_rules")
    issuer = models.ForeignKey(Issuer, on_delete=models.CASCADE, related_name="rules")
    name = models.CharField(max_length=64)
    claims = models.JSONField(default=dict)
    pinned = models.JSONField(default=dict)
    actions = models.CharField(max_length=40, blank=True)
    repositories = models.TextField(blank=True)
    networks = models.TextField(blank=True)
    lifetime = models.PositiveIntegerField(default=3600)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=254)
    last_used_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    deleted_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", help_text="may take it back"
    )
    form_id = models.UUIDField(null=True, blank=True, unique=True, help_text="a form that is sent twice makes one rule")

    def __str__(self) -> str:
        return self.name

    @property
    def only_actions(self) -> frozenset[str] | None:
        """The only actions that its sessions allow; None for all."""
        return frozenset(self.actions.split()) or None


class FederatedSession(models.Model):
    """An ID token that was accepted. It acts through ``key``, an access key that ends by itself (accounts.federation).

    ``token_hash``: of the ID token, which makes one session. ``is_exchanged``: the client got the secret of the key;
    else the ID token is its password. ``provenance``: texts from the token, in the order of id_tokens.PROVENANCE.
    """

    key = models.OneToOneField(AccessKey, on_delete=models.CASCADE, related_name="session")
    rule = models.ForeignKey(TrustRule, on_delete=models.CASCADE, related_name="sessions")
    token_hash = models.CharField(max_length=64, unique=True)
    is_exchanged = models.BooleanField()
    provenance = models.JSONField(default=dict)
    address = models.CharField(max_length=45, blank=True)
    client = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"session {self.key.identifier} of {self.rule}"


class ConsoleSession(AbstractBaseSession):
    """A browser that is, or was, signed in. ``session_key`` is a hash of the cookie's (`accounts.sessions`)."""

    session_key = models.CharField("session key", max_length=64, primary_key=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="sessions")
    address = models.CharField(max_length=45, blank=True)
    client = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.client} at {self.address}"


class RefreshTokenQuerySet(models.QuerySet["RefreshToken"]):
    """Reads of refresh tokens."""

    def alive(self) -> Self:
        """Tokens that have not expired and whose key and secret may be used."""
        now = timezone.now()
        newest = Q(secret_hash="") | Q(secret_hash=F("key__secret_hash"))
        former = Q(secret_hash=F("key__former__secret_hash"), key__former__ends_at__gt=now)
        return self.filter(newest | former, expires_at__gt=now, key__in=AccessKey.objects.alive())


class RefreshToken(models.Model):
    """A token that an OAuth2 client keeps instead of the secret; bound to its key and to one service.

    ``secret_hash``: of the key's secret that it was got with, and ends with; "" if that was the key's only one ever.
    """

    key = models.ForeignKey(AccessKey, on_delete=models.CASCADE, related_name="refresh_tokens")
    service = models.CharField(max_length=255)
    token_hash = models.CharField(max_length=64, unique=True)
    secret_hash = models.CharField(max_length=64, blank=True, db_default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    objects = RefreshTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"refresh token of {self.key} for {self.service}"


class SigningKey(models.Model):
    """A key pair that signs registry tokens; the private half is encrypted with the installation's secret."""

    identifier = models.CharField(max_length=32, unique=True)
    private_key = models.TextField()
    public_key = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.identifier


class SignInFailureQuerySet(models.QuerySet["SignInFailure"]):
    """Reads of failed sign-ins."""

    def since(self, since: datetime) -> Self:
        """Failures that still count."""
        return self.filter(at__gte=since)


class SignInFailure(models.Model):
    """One wrong secret, counted for five minutes (`accounts.guesses`); ``account`` is the hash of the typed name.

    ``address`` and ``block`` are networks: /64 and /48 of an address of IPv6, both the same for one of IPv4.
    ``of_key``: the secret of an access key was wrong, not a password.
    """

    account = models.CharField(max_length=64)
    address = models.CharField(max_length=45, blank=True)
    block = models.CharField(max_length=45, blank=True)
    of_key = models.BooleanField(default=False)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = SignInFailureQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["account", "at"], name="failures_of_account"),
            models.Index(fields=["address", "at"], name="failures_of_address"),
            models.Index(fields=["block", "at"], name="failures_of_block"),
        ]

    def __str__(self) -> str:
        return f"{self.address} at {self.at:%Y-%m-%d %H:%M:%S}"


class AuditEvent(models.Model):
    """One event of the audit log: who changed people, keys or passwords, and who signed in (accounts.audit writes it).

    What concerns several logs is written once for each. ``organization``: the log of that organization. Without one it
    is the log of ``person``; without both, of the installation. ``subject``: the e-mail address of the person, which
    outlives the row of the user. ``count``: more than 1 for failed sign-ins that share a row; the last was at
    ``last_at``. Other rows are never altered.
    """

    class Action(models.TextChoices):
        """What can happen."""

        MEMBER_ADD = "member.add"
        MEMBER_ROLE = "member.role"
        MEMBER_REMOVE = "member.remove"
        INVITATION_SEND = "invitation.send"
        INVITATION_WITHDRAW = "invitation.withdraw"
        INVITATION_DECLINE = "invitation.decline"
        PROJECT_ROLE = "project.role"
        REPOSITORY_ROLE = "repository.role"
        KEY_CREATE = "key.create"
        KEY_REVOKE = "key.revoke"
        KEY_RESTORE = "key.restore"
        KEY_ROTATE = "key.rotate"
        KEY_END_FORMER = "key.end-former"
        KEY_REFUSED = "key.refused"
        PASSWORD_CHANGE = "password.change"  # noqa: S105  the name of an event
        PASSWORD_RESET = "password.reset"  # noqa: S105
        SIGN_IN = "sign-in.success"
        SIGN_IN_FAILURE = "sign-in.failure"
        USER_DEACTIVATE = "user.deactivate"
        USER_ACTIVATE = "user.activate"
        USER_OPERATOR = "user.operator"
        SERVICE_CREATE = "service-account.create"
        SERVICE_UPDATE = "service-account.update"
        SERVICE_DELETE = "service-account.delete"
        SERVICE_RESTORE = "service-account.restore"
        ISSUER_CREATE = "issuer.create"
        ISSUER_UPDATE = "issuer.update"
        ISSUER_DELETE = "issuer.delete"
        RULE_CREATE = "trust-rule.create"
        RULE_DELETE = "trust-rule.delete"
        RULE_RESTORE = "trust-rule.restore"
        RULE_PIN = "trust-rule.pin"
        RULE_UNPIN = "trust-rule.unpin"
        SESSION_START = "session.start"
        SESSION_END = "session.end"
        TOKEN_REFUSED = "id-token.refused"  # noqa: S105
        SIGNING_KEY_ROTATE = "signing-key.rotate"
        ORGANIZATION_QUOTA = "organization.quota"

    at = models.DateTimeField(default=timezone.now, db_index=True)
    last_at = models.DateTimeField(null=True, blank=True)
    count = models.PositiveIntegerField(default=1)
    action = models.CharField(max_length=32, choices=Action)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, related_name="+", db_index=False
    )
    person = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False)
    subject = models.CharField(max_length=254, blank=True)
    actor = models.CharField(max_length=254)
    address = models.CharField(max_length=45, blank=True)
    client = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization", "-at", "-id"], name="audit_of_organization"),
            models.Index(fields=["organization", "action", "-at", "-id"], name="audit_by_action"),
            models.Index(fields=["organization", "subject", "-at", "-id"], name="audit_by_subject"),
            models.Index(fields=["organization", "actor", "-at", "-id"], name="audit_by_actor"),
            models.Index(fields=["person", "-at", "-id"], name="audit_of_person"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject} by {self.actor}"
