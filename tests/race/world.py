"""``python -m tests.race.world``: create the project, repositories and users of the race."""

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.models import ProjectRole
from registry import members, projects, repositories

EMAIL = "pusher@acme.test"
REPOSITORIES = ("one", "two")


def main() -> None:
    """Create them."""
    organization, _ = organizations.create_organization("acme")
    project, _ = projects.create(SYSTEM, organization, "demo")
    for name in REPOSITORIES:
        repositories.create(SYSTEM, project, name)
    user, _ = organizations.add_user(organization, EMAIL)
    members.set_role(SYSTEM, project, user, ProjectRole.MEMBER)


if __name__ == "__main__":
    main()
