"""Pages about keyless CI: issuers, trust rules, sessions, and snippets for pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone

from accounts import federation, issuers, trust_rules
from accounts.keys import RESTORE_TIME
from accounts.models import Issuer, IssuerKind, Organization, TrustRule, User
from registry import hosts

if TYPE_CHECKING:
    from accounts.actors import Actor

SESSIONS = 50


class Snippet(NamedTuple):
    """A ready-made piece of a pipeline; ``text`` has several lines."""

    title: str
    text: str


def issuers_of(organization: Organization) -> list[Issuer]:
    """The issuers of an organization with the number of their trust rules."""
    found = issuers.of(organization)
    return list(found.annotate(rule_count=Count("rules", filter=Q(rules__deleted_at=None))))


def rules(actor: Actor, account: User) -> dict[str, Any]:
    """The trust rules and sessions of an account, and the rules that the actor may restore."""
    assert account.organization is not None
    now = timezone.now()
    lately = TrustRule.objects.filter(account=account, deleted_at__gt=now - RESTORE_TIME).select_related("issuer")
    sessions = federation.of_account(account)
    alive = Q(key__revoked_at=None, key__expires_at__gt=now)
    return {
        "rules": list(trust_rules.of(account)),
        "deleted": [rule for rule in lately if trust_rules.may_restore(actor, rule)],
        "issuers": list(issuers.of(account.organization)),
        "alive": list(sessions.filter(alive)[:SESSIONS]),
        "ended": list(sessions.exclude(alive)[:SESSIONS]),
    }


def snippets(account: User) -> list[Snippet]:
    """Pipelines that push as the account, with the address of this registry and the name of the account."""
    project = account.project.name if account.project else "PROJECT"
    owner = account.project.name if account.project else account.organization.name if account.organization else ""
    host = hosts.BARE if settings.BARE_HOST_NAMES else hosts.Host(project)
    words = {
        "registry": settings.PUBLIC_URL,
        "host": host.service,
        "account": f"{owner}/{account.name}",
        "image": host.uri(f"{project}/REPOSITORY/IMAGE"),
    }
    return [Snippet(title, text.strip("\n") % words) for title, text in _SNIPPETS]


_SNIPPETS = (
    (
        "GitHub Actions",
        """
permissions:
  contents: read
  id-token: write
steps:
  - uses: actions/checkout@v4
  - name: Log in without a secret
    run: |
      curl -fsS -H "Authorization: Bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \\
        "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=%(registry)s" | jq -r .value \\
        | docker login %(host)s --username %(account)s --password-stdin
  - run: docker build --tag %(image)s:${{ github.sha }} .
  - run: docker push %(image)s:${{ github.sha }}
""",
    ),
    (
        "GitLab CI",
        """
push:
  image: docker:28
  services: [docker:28-dind]
  id_tokens:
    KCR_ID_TOKEN:
      aud: %(registry)s
  script:
    - echo "$KCR_ID_TOKEN" | docker login %(host)s --username %(account)s --password-stdin
    - docker build --tag %(image)s:$CI_COMMIT_SHA .
    - docker push %(image)s:$CI_COMMIT_SHA
""",
    ),
    (
        "Jenkins",
        """
// An ID token as credential: plugin "OpenID Connect Provider", with the audience %(registry)s
withCredentials([string(credentialsId: 'kcr-id-token', variable: 'KCR_ID_TOKEN')]) {
  sh '''
    echo "$KCR_ID_TOKEN" | docker login %(host)s --username %(account)s --password-stdin
    docker build --tag %(image)s:$GIT_COMMIT .
    docker push %(image)s:$GIT_COMMIT
  '''
}
""",
    ),
    (
        "Argo Workflows",
        """
serviceAccountName: builder
volumes:
  - name: kcr
    projected:
      sources:
        - serviceAccountToken: {audience: "%(registry)s", expirationSeconds: 3600, path: token}
container:
  image: IMAGE_WITH_SKOPEO
  volumeMounts: [{name: kcr, mountPath: /var/run/kcr}]
  command: [sh, -c]
  args:
    - |
      skopeo login %(host)s --username %(account)s --password-stdin < /var/run/kcr/token
      skopeo copy oci:/work/image docker://%(image)s:latest
""",
    ),
    (
        "Kubernetes",
        """
apiVersion: v1
kind: Pod
metadata: {name: push, namespace: ci}
spec:
  serviceAccountName: builder
  volumes:
    - name: kcr
      projected:
        sources:
          - serviceAccountToken: {audience: "%(registry)s", expirationSeconds: 3600, path: token}
  containers:
    - name: push
      image: IMAGE_WITH_PODMAN
      volumeMounts: [{name: kcr, mountPath: /var/run/kcr}]
      command: [sh, -c]
      args:
        - |
          podman login %(host)s --username %(account)s --password-stdin < /var/run/kcr/token
          podman push %(image)s:latest
""",
    ),
    (
        "curl",
        """
curl -fsS %(registry)s/token/exchange \\
  --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:token-exchange \\
  --data-urlencode subject_token_type=urn:ietf:params:oauth:token-type:id_token \\
  --data-urlencode service_account=%(account)s \\
  --data-urlencode subject_token="$ID_TOKEN" > credential.json
jq -r .password credential.json | docker login %(host)s --username "$(jq -r .username credential.json)" --password-stdin
""",
    ),
)


def kind_words(issuer: Issuer) -> str:
    """The kind of an issuer as pages show it."""
    return str(IssuerKind(issuer.kind).label)
