"""The settings of the next release: those of this one, and its migrations."""

from registry.settings import *  # noqa: F403

MIGRATION_MODULES = {app: f"tests.future.{app}" for app in ("accounts", "registry", "scanning")}
