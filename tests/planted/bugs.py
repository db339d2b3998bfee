"""The defects. Each replaces a text that occurs exactly once in a file, and names the tests that must fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Rotten(Exception):
    """The list does not fit the source. The message names the place."""


@dataclass(frozen=True)
class Change:
    """Replace ``old`` (exactly one place of ``file``) by ``new``."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Replace the text. Raises Rotten if it does not occur exactly once."""
        path = root / self.file
        source = path.read_text() if path.exists() else ""
        if (count := source.count(self.old)) != 1:
            raise Rotten(f"{self.file} has the text {count} times, not once:\n{self.old}")
        path.write_text(source.replace(self.old, self.new))


@dataclass(frozen=True)
class Bug:
    """A defect. ``tests``: ids below tests/, of which at least one must fail. ``database``: KCR_TEST_DATABASE."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    database: str = ""

    def plant(self, root: Path) -> None:
        """Change the source below ``root``. Raises Rotten."""
        for change in self.changes:
            change.apply(root)


@dataclass
class _List:
    bugs: list[Bug] = field(default_factory=list)

    def add(
        self, name: str, file: str, old: str, new: str, *tests: str, also: tuple[Change, ...] = (), database: str = ""
    ) -> None:
        self.bugs.append(Bug(name, (Change(file, old, new), *also), tests, database))


_list = _List()
add = _list.add
BUGS = _list.bugs

ACCESS = "registry/access.py"
BLOBS = "registry/blobs.py"
DELETE = "registry/trash/deleting.py"
OBJECTS = "registry/storage/s3.py"
FILES = "registry/storage/filesystem.py"
MANIFESTS = "registry/manifests.py"
OUTGOING = "accounts/outbound_http.py"
PURGE = "registry/trash/purging.py"
RESTORE = "registry/trash/restoring.py"
TAGS = "registry/tags.py"
TAG_RULES = "registry/tag_rules/enforcement.py"
TOKENS = "accounts/tokens.py"
UPLOADS = "registry/uploads.py"

# ── Permissions ──────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "a viewer may push",
    ACCESS,
    "Action.PUSH: _MANAGERS | {Role.REPOSITORY_MEMBER},",
    "Action.PUSH: _MANAGERS | {Role.REPOSITORY_MEMBER, Role.REPOSITORY_VIEWER},",
    "registry/test_access.py::test_roles_and_key_limits_match_the_table",
)
add(
    "a reader may delete",
    ACCESS,
    "Action.DELETE: _MANAGERS,",
    "Action.DELETE: _MANAGERS | {Role.READER},",
    "registry/v2/test_matrix.py::test_every_role_gets_the_answer_of_the_table",
)
add(
    "a member may administer",
    ACCESS,
    "Action.ADMINISTER: frozenset({Role.OWNER, Role.ADMIN}),",
    "Action.ADMINISTER: _MANAGERS,",
    "console/test_matrix.py::test_changes_to_a_project",
)
add(
    "a key for pulling pushes",
    ACCESS,
    "if action not in _allowed_by_key(actor):",
    "if action not in Action:",
    "accounts/test_keys.py::test_pull_only_key_pulls_and_its_push_is_refused_with_the_reason",
)
add(
    "a key for one repository opens all",
    ACCESS,
    "    if actor.repositories:\n        personal &=",
    "    if actor.repositories == 0:\n        personal &=",
    "registry/test_access.py::test_roles_and_key_limits_match_the_table",
)
add(
    "a token forgets the networks of its key",
    "registry/v2/authentication.py",
    "return _in_network(token.actor), token",
    "return token.actor, token",
    "accounts/test_limits.py::test_token_of_a_key_is_refused_in_other_networks",
)
add(
    "a key for one project opens all",
    ACCESS,
    "    if actor.project_id is not None:\n        personal &=",
    "    if actor.project_id == 0:\n        personal &=",
    "accounts/test_keys.py::test_key_limited_to_a_project_gives_no_role_in_another_project",
)
add(
    "a revoked key acts on",
    "accounts/models.py",
    "Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None, user__is_active=True)",
    "Q(expires_at=None) | Q(expires_at__gt=Now()), user__is_active=True)",
    "registry/test_access.py::test_token_of_an_ended_key_is_refused_everywhere",
)
add(
    "an expired key acts on",
    "accounts/models.py",
    "Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None, user__is_active=True)",
    "revoked_at=None, user__is_active=True)",
    "registry/test_access.py::test_token_of_an_ended_key_is_refused_everywhere",
)
add(
    "an old token opens a repository made again under the name",
    ACCESS,
    "return actor.scope is None or action in actor.scope.get(repository_id, ())",
    "return True",
    "registry/test_access.py::test_repository_recreated_under_its_name_honours_no_old_token",
)
add(
    "a deleted repository is open",
    ACCESS,
    'rows = rows.filter(**{_step(repository, "deletion"): None})',
    "rows = rows.filter()",
    "registry/test_access.py::test_old_tokens_read_nothing_of_a_deleted_repository",
)
add(
    "a service account gets a role that its giver does not hold",
    ACCESS,
    "    return {action for action, roles in ALLOWED.items() if given in roles} <= held",
    "    return True",
    "registry/test_service_accounts.py::test_role_in_a_project_is_given_by_those_who_hold_it",
)
add(
    "a person gets the key of a service account that may do more than they",
    "registry/service_accounts.py",
    "        if not access.may_give(actor, role, thing):",
    "        if False:",
    "registry/test_service_accounts.py::test_people_get_no_key_of_an_account_that_may_do_more_than_they",
)
add(
    "an eleventh key",
    "accounts/keys.py",
    ".count() >= most:",
    ".count() > most:",
    "accounts/test_keys.py::test_a_user_has_ten_living_keys_at_most",
)

# ── S3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "a writer without the lease makes its blob visible",
    UPLOADS,
    "if locked is None or locked.writer != session.writer:",
    "if locked is None:",
    "registry/test_s3.py::test_a_writer_that_is_replaced_makes_nothing_visible",
)
add(
    "the object of another writer is taken for the own one",
    OBJECTS,
    'return bool(found.get("ETag") == self._expected_etag())',
    "return True",
    "registry/test_s3.py::test_two_objects_of_one_multipart_upload_are_told_apart",
)
add(
    "a failed upload leaves its parts",
    OBJECTS,
    "        self._abort_all(_published(upload))\n",
    "",
    "registry/test_s3.py::test_a_cancelled_upload_is_gone_at_once",
)
add(
    "a part ends with bytes of the part before",
    OBJECTS,
    "        self.file.truncate()\n",
    "",
    "registry/test_s3_tails.py::test_shorter_part_has_no_bytes_of_the_longer_one_before",
)
add(
    "a part waits in memory",
    OBJECTS,
    "tempfile.SpooledTemporaryFile(IN_MEMORY,",
    "tempfile.SpooledTemporaryFile(0,",
    "registry/test_s3_tails.py::test_few_bytes_wait_in_memory_and_more_in_a_file",
)
add(
    "a full disk is an error of the server",
    OBJECTS,
    "            if error.errno in {errno.ENOSPC, errno.EDQUOT}:\n                raise Full(str(error)) from error\n",
    "",
    "registry/test_s3_tails.py::test_full_disk_is_said_to_be_full",
)
add(
    "signed addresses are good for longer",
    OBJECTS,
    "ADDRESS_SECONDS = 300",
    "ADDRESS_SECONDS = 3600",
    "registry/test_s3.py::test_a_large_blob_is_fetched_from_s3",
)
add(
    "a damaged blob is copied to another storage",
    "registry/storage_copy.py",
    "        raise _Damaged\n",
    "        pass\n",
    "registry/test_storage_copy.py::test_the_digest_decides",
)

add(
    "half a blob at the target is taken for the whole one",
    "registry/storage_copy.py",
    "if target.holds(blob.storage_key, blob.size):",
    "if target.exists(blob.storage_key):",
    "registry/test_storage_copy.py::test_half_a_blob_at_the_target_is_replaced",
)
add(
    "a copy leaves blobs out between its batches",
    "registry/storage_copy.py",
    "        last = rows[-1].pk\n",
    "        last = rows[-1].pk + BATCH\n",
    "registry/test_storage_copy.py::test_every_batch_is_copied",
)
add(
    "a deleted service account is restored by any person",
    "registry/service_accounts.py",
    "return event is not None and event.actor == actor.label",
    "return event is not None",
    "registry/test_service_accounts.py::test_account_is_restored_by_the_person_who_deleted_it_within_ten_minutes",
)
add(
    "an upload takes the room of another key",
    UPLOADS,
    "if keys.count(wanted.key_id) >= OPEN_SESSIONS:",
    "if len(keys) >= OPEN_SESSIONS:",
    "registry/v2/test_uploads.py::test_key_has_at_most_a_hundred_open_uploads",
)
add(
    "the limit of repositories matches a part of a name",
    "accounts/limits.py",
    "return f\"^({'|'.join(words)})$\"",
    "return f\"({'|'.join(words)})\"",
    "accounts/test_limits.py::test_pattern_matches_whole_names_only",
)

# ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "a token for one host opens another",
    TOKENS,
    '        audience=service,\n        issuer=settings.PUBLIC_URL,\n        leeway=LEEWAY,\n        options={"require": _CLAIMS},',
    '        issuer=settings.PUBLIC_URL,\n        leeway=LEEWAY,\n        options={"require": _CLAIMS, "verify_aud": False},',
    "registry/v2/test_token.py::test_a_token_is_for_one_host",
)
add(
    "a token lives too long",
    TOKENS,
    "if known.expires_at <= time.time():",
    "if known.expires_at <= time.time() - 60:",
    "accounts/test_tokens.py::test_token_expires_after_fifteen_minutes",
)
add(
    "a refresh token for one service is one for all",
    TOKENS,
    ".filter(token_hash__in=hashes, service=service)",
    ".filter(token_hash__in=hashes)",
    "registry/v2/test_token.py::test_a_refresh_token_is_for_its_service_only",
)
add(
    "a refresh token outlives its secret",
    "accounts/models.py",
    "self.filter(newest | former, expires_at__gt=now, key__in=AccessKey.objects.alive())",
    "self.filter(expires_at__gt=now, key__in=AccessKey.objects.alive())",
    "accounts/test_keys.py::test_refresh_tokens_end_with_the_secret_that_they_were_got_with",
)
add(
    "a refresh token outlives its key",
    "accounts/models.py",
    "return self.filter(newest | former, expires_at__gt=now, key__in=AccessKey.objects.alive())",
    "return self.filter(newest | former, expires_at__gt=now)",
    "registry/v2/test_token.py::test_a_refresh_token_ends_with_its_key",
)
add(
    "any service is one of ours",
    "registry/hosts.py",
    "return host if names.is_project(project) and service == host.service else None",
    "return host if names.is_project(project) else None",
    "registry/v2/test_token.py::test_tokens_are_issued_for_known_services_only",
)
add(
    "passwords are looked at by the hundred",
    "accounts/passwords.py",
    "PLACES, PLACES_FOR_STRANGERS = 3, 2",
    "PLACES, PLACES_FOR_STRANGERS = 300, 200",
    "accounts/test_passwords.py::test_every_password_check_takes_a_place",
)
add(
    "the first address of X-Forwarded-For is believed",
    "registry/server/clients.py",
    "for hop in reversed(hops):",
    "for hop in hops:",
    "registry/v2/test_token.py::test_x_forwarded_for_is_believed_from_trusted_proxies",
)
add(
    "a stranger says that the request came by https",
    "registry/middleware.py",
    "if not is_trusted(request.peer):",
    "if not request.peer:",
    "registry/test_hosts.py::test_x_forwarded_proto_is_believed_from_trusted_proxies_only",
)

# ── Bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "a staged file is not synced",
    FILES,
    "            os.fsync(self._descriptor)  # durable before the row or a response says that these bytes are here\n",
    "",
    "registry/test_power_cuts.py::test_a_push_survives_a_power_cut_after_every_step",
)
add(
    "commits of transactions are not synced",
    "registry/database/sqlite/base.py",
    "            self._give_turn_when_over()\n        self._note_commit()\n",
    "            self._give_turn_when_over()\n",
    "registry/test_durable_commits.py::test_everything_that_was_answered_survives_a_power_cut",
)
add(
    "commits in autocommit are not synced",
    "registry/database/sqlite/base.py",
    "        if self.description is None:\n            self._database.make_durable()\n",
    "        if self.description is None:\n            pass\n",
    "registry/test_durable_commits.py::test_write_in_autocommit_is_synced_after_its_commit",
)
add(
    "a commit waits for a sync that began before it",
    "registry/database/sqlite/log.py",
    "            return self._begun + 1\n",
    "            return max(1, self._begun)\n",
    "registry/test_durable_commits.py::test_threads_share_a_sync_that_began_after_their_commits",
)
add(
    "a failed sync of the log is tried again",
    "registry/database/sqlite/log.py",
    "            if number <= self._failed:\n",
    "            if number < self._failed:\n",
    "registry/test_durable_commits.py::test_failed_sync_is_an_error_for_every_commit_that_shares_it",
)
add(
    "the directory of a new staged file is not synced",
    FILES,
    "                _sync_directory(self._staged.parent)\n",
    "                pass\n",
    "registry/test_power_cuts.py::test_acknowledged_upload_continues_after_a_power_cut",
)
add(
    "the directory of a published blob is not synced",
    FILES,
    "            _sync_directory(target.parent)\n",
    "",
    "registry/test_power_cuts.py::test_a_push_survives_a_power_cut_after_every_step",
)
add(
    "a new directory is not synced in its parent",
    FILES,
    "    directory.mkdir(mode=0o700, exist_ok=True)\n    _sync_directory(directory.parent)\n",
    "    directory.mkdir(mode=0o700, exist_ok=True)\n",
    "registry/test_power_cuts.py::test_a_push_survives_a_power_cut_after_every_step",
)
add(
    "the row of a blob comes before its bytes",
    UPLOADS,
    "        key = written.writer.publish()\n        blob = _make_visible(session, repository, digest, written.end, key)\n",
    "        blob = _make_visible(session, repository, digest, written.end, session.storage_key)\n"
    "        written.writer.publish()\n",
    "registry/test_power_cuts.py::test_a_push_survives_a_power_cut_after_every_step",
)
add(
    "the row of an upload goes before its key is in the trash",
    UPLOADS,
    "        _trash(row.storage_key)\n        row.delete()\n",
    "        row.delete()\n",
    "registry/test_crashes.py::test_killed_cancel_leaves_the_bytes_to_the_collector",
)
add(
    "a key leads out of the storage",
    FILES,
    "source, target = self._staged, Path(self._storage.path(self._key))",
    "source, target = self._staged, Path(self._storage.location) / self._key",
    "registry/test_storage.py::test_keys_cannot_point_outside_the_storage",
)
add(
    "two write to one upload",
    FILES,
    "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
    "registry/test_storage.py::test_second_writer_of_an_upload_is_refused_without_waiting",
)
add(
    "a writer does not look again under the lock",
    UPLOADS,
    "            _look_again(session)\n",
    "",
    "registry/test_uploads.py::test_request_that_loaded_the_upload_earlier_does_not_overwrite_it",
)
add(
    "a link in staging is followed",
    FILES,
    "os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC",
    "os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC",
    "registry/test_storage.py::test_files_are_private_and_links_are_not_followed",
)
add(
    "what a cut request left stays",
    FILES,
    "            os.ftruncate(descriptor, offset)  # drops bytes of a cut request\n",
    "",
    "registry/test_storage.py::test_unacknowledged_bytes_are_dropped",
)
add(
    "the digest of a blob is believed",
    UPLOADS,
    'if written.digest not in {"", str(claimed)}:',
    "if not claimed:",
    "registry/v2/test_uploads.py::test_bytes_with_another_digest_are_discarded_and_the_right_push_works",
)
add(
    "the upload of somebody else goes on",
    UPLOADS,
    "image_name=image_name, user=actor.user_id, expires_at__gt=now",
    "image_name=image_name, expires_at__gt=now",
    "registry/v2/test_uploads.py::test_upload_is_found_only_by_its_owner_under_its_name",
)
add(
    "a chunk may begin anywhere",
    UPLOADS,
    "if piece.start is not None and piece.start != session.offset:",
    "if piece.start == NOWHERE:",
    "registry/v2/test_uploads.py::test_chunk_out_of_order_is_416_and_changes_nothing",
)
add(
    "uploads without number",
    UPLOADS,
    "OPEN_SESSIONS = 100",
    "OPEN_SESSIONS = 101",
    "registry/v2/test_uploads.py::test_key_has_at_most_a_hundred_open_uploads",
)
add(
    "a blob may be a byte too large",
    FILES,
    "        if end > limit:\n",
    "        if end > limit + 1:\n",
    "registry/test_storage.py::test_upload_is_cut_at_its_limit",
)
add(
    "a range reaches beyond the blob",
    "registry/oci/ranges.py",
    "min(int(last) if last else size - 1, size - 1)",
    "int(last) if last else size - 1",
    "registry/oci/test_ranges.py::test_range_agrees_with_a_simple_parser",
)

# ── Blobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "a mount asks for no right on the source",
    BLOBS,
    "shown_by = access.find(actor, access.Action.PULL, source)",
    "shown_by = Repository.objects.named(source).first()",
    "registry/v2/test_uploads.py::test_a_key_without_a_token_mounts_only_what_its_holder_may_pull",
)
add(
    "a token for the target mounts from everywhere",
    "registry/v2/uploads.py",
    "if not self.covers(source, Action.PULL):",
    "if not source:",
    "registry/v2/test_uploads.py::test_a_token_for_the_target_alone_mounts_nothing_from_elsewhere",
    also=(
        Change(
            BLOBS,
            "    shown_by = access.find(actor, access.Action.PULL, source)\n",
            "    anyhow = replace(actor, scope=None)\n"
            "    shown_by = access.permitted(Repository.objects.named(source), anyhow, access.Action.PULL).first()\n",
        ),
    ),
)
add(
    "HEAD gives no lease",
    BLOBS,
    "if leased_until is None or leased_until < now + LEASE / 2:",
    "if leased_until == 0:",
    "registry/test_garbage.py::test_acknowledged_blob_can_be_named_within_its_lease_despite_the_collector",
)
add(
    "a manifest names blobs of other repositories",
    BLOBS,
    'ManifestBlob.objects.naming(repository, OuterRef("pk"), pulled=True)',
    'ManifestBlob.objects.pulled().filter(blob=OuterRef("pk"))',
    "registry/v2/test_tenancy.py::test_manifest_cannot_name_a_blob_of_another_repository",
)
add(
    "a lease never ends",
    "registry/models/blobs.py",
    "        return self.filter(expires_at__gt=now or timezone.now())\n",
    "        return self.all()\n",
    "registry/v2/test_manifests.py::test_layer_with_an_expired_lease_cannot_be_named",
)
add(
    "a damaged blob is served",
    BLOBS,
    "        if storage.holds(blob.storage_key, blob.size):\n            return use(storage)\n",
    "        return use(storage)\n",
    "registry/v2/test_blobs.py::test_damaged_blob_is_missing_until_it_is_pushed_again",
)
add(
    "a blob is dropped under an image",
    BLOBS,
    "        if ManifestBlob.objects.live().filter(repository=repository, blob__digest=digest).exists():",
    "        if not digest:",
    "registry/v2/test_blobs.py::test_blob_of_an_image_is_not_deleted",
)
add(
    "bytes end while they are downloaded",
    "registry/garbage/collector.py",
    "OBJECT_DELAY = timedelta(hours=2)",
    "OBJECT_DELAY = timedelta(0)",
    "registry/test_garbage.py::test_bytes_are_deleted_two_hours_after_their_row_and_a_running_download_continues",
)
add(
    "the collector deletes bytes that a row names",
    "registry/garbage/reaper.py",
    "return [key for key in keys if key not in owned]",
    "return keys",
    "registry/test_garbage.py::test_bytes_of_a_live_blob_are_never_deleted_even_when_in_the_trash",
)

# ── Manifests and tags ───────────────────────────────────────────────────────────────────────────────────────────────
add(
    "a manifest has the digest that it is pushed by",
    MANIFESTS,
    "if by_digest and digest != reference:",
    "if by_digest and not reference:",
    "registry/v2/test_manifests.py::test_wrong_digest_of_the_body_is_refused",
)
add(
    "a manifest lies about sizes",
    MANIFESTS,
    "if descriptor.size != (size := sizes[descriptor.digest]):",
    "if descriptor.size < (size := sizes[descriptor.digest]):",
    "registry/v2/test_manifests.py::test_repeated_layer_with_a_wrong_size_is_refused",
)
add(
    "a key twice in a document",
    "registry/oci/documents.py",
    "    if len(result) != len(pairs):\n",
    "    if len(result) > len(pairs):\n",
    "registry/oci/test_documents.py::test_duplicate_key_is_refused_at_every_place",
)
add(
    "an expired image is pulled",
    MANIFESTS,
    "has_expired=Case(When(image__expires_at__lte=Now(), then=1), default=0),",
    "has_expired=Case(When(image__expires_at__gt=Now(), then=1), default=0),",
    "registry/v2/test_manifests.py::test_an_expired_image_is_neither_pulled_nor_pushed_and_the_reason_is_given",
)
add(
    "the first push of an image counts without a lock",
    MANIFESTS,
    "    Repository.objects.select_for_update(no_key=True).get(pk=repository.pk)\n",
    "",
    "registry/test_concurrency.py::test_one_of_a_hundred_requests_gets_the_last_place_of_a_quota[postgresql-images]",
)
add(
    "sums are counted without a lock",
    "scanning/findings.py",
    'list(locked.select_related("manifest")',
    'list(reports.select_related("manifest")',
    "scanning/test_acceptances.py::test_counts_are_computed_under_the_lock_of_their_report",
    database="postgresql",
)
add(
    "an index is summed up without a lock",
    "scanning/findings.py",
    "locked = Manifest.objects.select_for_update(no_key=True).filter(pk__in=indexes)",
    "locked = Manifest.objects.filter(pk__in=indexes)",
    "test_locks.py::test_index_has_the_counts_of_platforms_that_are_counted_at_once",
    database="postgresql",
)
add(
    "counts are lost with the process that accepts",
    "scanning/acceptances.py",
    "update(recount_at=timezone.now())",
    "update(recount_at=None)",
    "scanning/test_acceptances.py::test_counts_of_a_process_that_was_killed_are_made_by_the_task",
)
add(
    "a tag means two things at a time",
    TAGS,
    "tag.ended_at, tag.closed_by, tag.deletion = max(event.at, tag.started_at), event, deletion",
    "tag.ended_at, tag.closed_by, tag.deletion = event.at, event, deletion",
    "registry/test_tag_history.py::test_clock_that_goes_back_creates_no_negative_interval",
)
add(
    "a tag that has ended is pulled at its moment",
    "registry/models/manifests.py",
    "still = Q(tags__ended_at=None) | Q(tags__ended_at__gt=moment)",
    "still = Q()",
    "registry/test_tag_history.py::test_any_history_of_a_tag_is_read_as_it_was_written",
)
add(
    "a tag is overwritten where that is off",
    TAG_RULES,
    "if current is not None and rule.mode != Mode.MOVABLE:",
    "if current is None and rule.mode == Mode.IMMUTABLE:",
    "registry/v2/test_tags.py::test_no_role_overwrites_a_tag_without_tag_overwrite",
)
add(
    "a write-once name gets another digest after its deletion",
    TAG_RULES,
    "if last is not None and last != manifest.digest:",
    "if last is None:",
    "registry/test_tag_rules.py::test_name_of_a_deleted_tag",
)
add(
    "a purge forgets what a write-once tag pointed to",
    PURGE,
    "        tag_rules.remember(tags)\n",
    "",
    "registry/test_tag_rules.py::test_name_of_a_deleted_tag",
)
add(
    "a tag that a rule keeps is deleted with its digest",
    DELETE,
    "tag_rules.check_deletion(image.repository, [*named, *alone])",
    "tag_rules.check_deletion(image.repository, alone)",
    "registry/test_tag_rules.py::test_kept_tag_is_deleted_through_no_door",
)
add(
    "a former digest comes back once the later one is purged",
    TAG_RULES,
    "closed.filter(Exists(later) | Exists(purged))",
    "closed.filter(Exists(later))",
    "registry/test_tag_rules.py::test_recovery_brings_back_no_former_digest_of_a_write_once_name",
)
add(
    "a tag that names its own digest is moved like a signature",
    TAG_RULES,
    "return not names_itself and attachments.is_attached(image, name, manifest)",
    "return attachments.is_attached(image, name, manifest)",
    "registry/test_tag_rules.py::test_tag_that_names_its_own_digest_is_not_attached",
)
add(
    "rules apply to signatures",
    TAG_RULES,
    "return not names_itself and attachments.is_attached(image, name, manifest)",
    "return False",
    "registry/test_tag_rules.py::test_attached_tags_are_exempt",
)
add(
    "one more than the quota",
    "registry/quotas.py",
    "    if used >= limit:\n",
    "    if used > limit:\n",
    "registry/v2/test_tags.py::test_full_image_refuses_new_tags_only",
)
add(
    "a cleanup of exactly the percentage is held",
    "registry/cleanup/runs.py",
    'if current.to_delete * 100 > current.considered * current.rules["most_percent"]:',
    'if current.to_delete * 100 >= current.considered * current.rules["most_percent"]:',
    "registry/test_cleanup.py::test_run_at_exactly_the_percentage_is_not_held",
)

# ── Recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "what is deleted comes back after its time",
    RESTORE,
    "    if current.purge_after <= timezone.now() and not current.hold:\n",
    "    if current.purge_after is None:\n",
    "registry/test_trash.py::test_deletion_past_its_deadline_is_not_recovered_even_before_its_purge",
)
add(
    "a hold keeps nothing",
    PURGE,
    "Q(is_purging=True) | Q(purge_after__lte=timezone.now(), hold=False)",
    "Q(is_purging=True) | Q(purge_after__lte=timezone.now())",
    "registry/test_trash.py::test_held_deletion_is_not_purged_after_its_deadline",
    also=(Change(PURGE, "(current.purge_after <= now and not current.hold)", "(current.purge_after <= now)"),),
)
add(
    "a held part goes with the whole",
    PURGE,
    '.values_list("hold", flat=True)):',
    '.values_list("is_purging", flat=True)):',
    "registry/test_trash.py::test_hold_on_a_part_keeps_the_containing_deletion",
)
add(
    "what is held is deleted for good by hand",
    PURGE,
    "        if current.hold:\n            raise",
    "        if current.hold is None:\n            raise",
    "console/test_stories.py::test_held_deletion_is_kept_and_then_purged",
)

# ── Scans and notices ────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "the gate is open for viewers",
    "registry/pull_policy.py",
    "access.may(replace(actor, scope=None), access.Action.PUSH, repository):",
    "access.may(replace(actor, scope=None), access.Action.PULL, repository):",
    "scanning/test_pull_policy.py::test_pull_is_refused_with_the_reason_and_a_link",
)
add(
    "a scan that failed is clean",
    "scanning/findings.py",
    'defaults=said | {"state": State.FAILED})',
    'defaults=said | {"state": State.SCANNED, "problem": ""})',
    "scanning/test_scans.py::test_missing_bytes_are_reported",
)
add(
    "where nothing was recognised all is well",
    "scanning/findings.py",
    "        return State.UNRECOGNISED\n",
    "        return State.SCANNED\n",
    "scanning/test_scans.py::test_image_without_packages_is_not_clean",
)
add(
    "a system without rows in the vulnerability database is clean",
    "scanning/findings.py",
    "State.SCANNED if result.is_covered else State.UNCOVERED",
    "State.SCANNED",
    "scanning/test_coverage.py::test_scan_reports_a_system_without_rows",
)
add(
    "rows of another release are enough",
    "scanning/trivy/coverage.py",
    "{_letters(each.removesuffix(ending)) for each in known}",
    '{_letters(each.rpartition(" ")[0] or each) for each in known}',
    "scanning/test_coverage.py::test_system_without_rows_is_not_covered",
)
add(
    "the gate is open for a system that is not covered",
    "scanning/findings.py",
    "report.state not in {State.FAILED, State.UNCOVERED}",
    "report.state != State.FAILED",
    "scanning/test_coverage.py::test_pull_of_an_uncovered_system_is_judged_like_one_of_an_unscanned_image",
)
add(
    "only the first address of a host is judged",
    OUTGOING,
    "    for address in addresses:\n        _judge(address, port)\n",
    "    for address in addresses[:1]:\n        _judge(address, port)\n",
    "accounts/test_outbound_http.py::test_names_are_checked_by_all_their_addresses",
)
add(
    "the host is looked up again when it is dialled",
    OUTGOING,
    "socket.create_connection((str(self._address), self.port), STEP_SECONDS)",
    "socket.create_connection((self._target.host, self.port), STEP_SECONDS)",
    "accounts/test_outbound_http.py::test_dialled_address_is_the_checked_one",
)
add(
    "any certificate will do",
    OUTGOING,
    "context = ssl.create_default_context()",
    "context = ssl._create_unverified_context()",
    "accounts/test_outbound_http.py::test_the_certificate_must_be_that_of_the_host",
)
add(
    "a webhook's time is not signed",
    "scanning/notifications/channels/webhook.py",
    'timestamp.encode() + b"." + body, "sha256"',
    'body, "sha256"',
    "scanning/test_channels.py::test_a_webhook_is_signed",
)

# ── Programs: ID tokens, the management API, events, quotas ───────────────────────────────────────────────────────────
FEDERATION = "accounts/federation.py"
TRUST_RULES = "accounts/trust_rules.py"
EXCHANGE_TESTS = "registry/v2/test_exchange.py"
API_TESTS = "api/test_foundations.py"
NOUN_TESTS = "api/test_nouns.py"
EVENTS = "scanning/notifications/events.py"
EVENT_TESTS = "scanning/test_events.py"
QUOTA_TESTS = "registry/test_byte_quotas.py"
add(
    "a session forgets the actions of its rule",
    FEDERATION,
    '        pull_only=rule.actions == "pull",\n        actions=rule.actions,\n',
    "",
    f"{EXCHANGE_TESTS}::test_session_is_limited_as_its_rule_says",
)
add(
    "an ID token for another service is accepted",
    "accounts/id_tokens.py",
    'if claims.get("aud") not in (audience, [audience]):',
    'if not claims.get("aud"):',
    f"{EXCHANGE_TESTS}::test_hostile_token_gets_nothing",
)
add(
    "a repository made again under its name acts as the former one",
    TRUST_RULES,
    "        if found.get(name) != wanted:\n",
    "        if name not in found:\n",
    f"{EXCHANGE_TESTS}::test_repository_of_the_same_name_with_another_id_is_refused",
)
add(
    "a request that saw an older thing overwrites a newer one",
    "api/base.py",
    "if wanted is not None and not (etag and _names(wanted, etag)):",
    "if wanted is not None and not etag:",
    f"{API_TESTS}::test_if_match_refuses_what_has_changed",
)
add(
    "a change between the comparison and the lock is overwritten",
    "registry/edits.py",
    "if after and seen is not None and {name: seen.get(name) for name in now} != now:",
    "if after and seen == {}:",
    f"{API_TESTS}::test_a_change_between_look_and_lock_is_a_failed_precondition",
)
add(
    "a tag is moved without an ETag",
    "api/tags.py",
    'if seen not in {"", digest} and not self.has_precondition:',
    "if seen == digest and not self.has_precondition:",
    f"{API_TESTS}::test_a_tag_is_added_and_moved",
)
add(
    "another request with the same Idempotency-Key gets the answer of the first",
    "api/idempotency.py",
    "if found.fingerprint != fingerprint:",
    "if not found.fingerprint:",
    f"{NOUN_TESTS}::test_another_post_with_the_same_key_is_refused",
)
add(
    "the position of a webhook moves without its deliveries",
    EVENTS,
    "    with transaction.atomic():\n        live",
    "    if transaction:\n        live",
    f"{EVENT_TESTS}::test_a_failed_batch_is_made_again",
)
add(
    "a push of a new digest under a tag is two events",
    "registry/models/audit.py",
    'return self.exclude(action=Event.Action.IMAGE_PUSH, detail__has_key="tags")',
    "return self.all()",
    f"{EVENT_TESTS}::test_each_push_is_one_event",
)
add(
    "a tag that is set in the console starts the build",
    "scanning/notifications/cloud_events.py",
    'event.action in {Action.TAG_ADD, Action.TAG_MOVE} and "media_type" in event.detail',
    "event.action in {Action.TAG_ADD, Action.TAG_MOVE}",
    f"{EVENT_TESTS}::test_tag_that_is_set_without_a_push_is_no_push",
)
add(
    "the former secret of a webhook signs for ever",
    "scanning/models/notifications.py",
    "return self.former_until is not None and self.former_until > timezone.now()",
    "return self.former_until is not None",
    f"{EVENT_TESTS}::test_both_secrets_sign_for_a_day",
)
add(
    "everybody pushes a tag that a rule gives to named people",
    TAG_RULES,
    "if actor.is_system or (actor.user_id is not None and actor.label in rule.pushers):",
    "if actor.is_system or (actor.user_id is not None and bool(rule.pushers)):",
    "registry/test_tag_rules.py::test_only_the_named_people_push",
)
add(
    "a repository sets a locked rule of its project aside",
    "registry/tag_rules/rules.py",
    "        *(rule for rule in of_project if rule.is_locked),\n        *own,\n",
    "        *own,\n        *(rule for rule in of_project if rule.is_locked),\n",
    "registry/test_tag_rules.py::test_first_rule_that_matches_applies",
)
add(
    "a push creates a repository where the project does not say so",
    ACCESS,
    "_alive(actor), name=name.project, create_on_push=True).first()",
    "_alive(actor), name=name.project).first()",
    "registry/v2/test_create_on_push.py::test_it_is_off_by_default",
)
add(
    "a key that is limited to repositories creates others",
    ACCESS,
    "    if Action.PUSH not in _allowed_by_key(actor) or actor.repositories:\n        return None",
    "    if Action.PUSH not in _allowed_by_key(actor):\n        return None",
    "registry/v2/test_create_on_push.py::test_limits_of_the_key_hold",
)
add(
    "layers of other projects cost nothing",
    "registry/quotas.py",
    "live = ManifestBlob.objects.live().filter(repository__project=project, repository__deletion=None)",
    "live = ManifestBlob.objects.live().filter(repository__deletion=None)",
    f"{QUOTA_TESTS}::test_layers_that_another_project_has_count",
)
add(
    "layers in Recovery cost nothing",
    "registry/quotas.py",
    "live = ManifestBlob.objects.live().filter(repository__project=project, repository__deletion=None)",
    "live = ManifestBlob.objects.filter(repository__project=project)",
    f"{QUOTA_TESTS}::test_layers_of_a_deleted_repository_count",
)
add(
    "pushes since the measurement are not counted",
    "registry/quotas.py",
    'Coalesce("usage__size", 0) + Coalesce(Subquery(added.values("total")), 0),',
    'Coalesce("usage__size", 0),',
    f"{QUOTA_TESTS}::test_pushes_since_the_measurement_count",
)
add(
    "chats are told of a quota that falls",
    "registry/quota_warnings.py",
    "if is_mine and fill.level > row.told:",
    "if is_mine:",
    "scanning/test_quota_messages.py::test_each_level_is_one_message_and_comes_again_only_after_a_fall",
)
add(
    "a person adds a trust rule for an account that may do more than they",
    "registry/service_accounts.py",
    "        require_covers(actor, _lock_account(account))\n        return trust_rules.create(",
    "        _lock_account(account)\n        return trust_rules.create(",
    f"{EXCHANGE_TESTS}::test_rule_is_made_only_by_those_who_may_do_what_its_account_may",
)
add(
    "an ID token is exchanged from every network",
    FEDERATION,
    "if not limits.covers(rule.networks, address):",
    'if not limits.covers("", address):',
    f"{EXCHANGE_TESTS}::test_networks_of_a_rule_hold_at_the_exchange",
)
add(
    "a restored service account has its former sessions",
    FEDERATION,
    "return sum(end(actor, session) for session in alive)",
    "return alive.count()",
    f"{EXCHANGE_TESTS}::test_restored_account_has_none_of_its_former_sessions",
)
add(
    "sessions of a deleted trust rule go on",
    TRUST_RULES,
    "number = sessions.update(revoked_at=now, revoked_by=actor.user_id)",
    "number = sessions.count()",
    f"{EXCHANGE_TESTS}::test_session_ends_at_the_next_request",
)
add(
    "a session lives longer than its rule says",
    FEDERATION,
    "expires_at=now + timedelta(seconds=rule.lifetime),",
    "expires_at=now + 2 * timedelta(seconds=rule.lifetime),",
    f"{EXCHANGE_TESTS}::test_session_is_limited_as_its_rule_says",
)
add(
    "a trust rule lets sessions live for ever",
    TRUST_RULES,
    "if not LIFETIMES[0] <= lifetime <= LIFETIMES[1]:",
    "if not LIFETIMES[0] <= lifetime:",
    f"{EXCHANGE_TESTS}::test_session_lives_from_15_minutes_to_12_hours",
)
add(
    "a session uses the management API",
    FEDERATION,
    "        networks=rule.networks,\n",
    "        networks=rule.networks,\n        management=True,\n",
    f"{EXCHANGE_TESTS}::test_credential_of_an_exchange_opens_no_other_door",
)
add(
    "a rule trusts the issuer of another organization",
    TRUST_RULES,
    "if issuer.organization_id != account.organization_id or issuer.deleted_at:",
    "if issuer.deleted_at:",
    f"{EXCHANGE_TESTS}::test_rule_of_another_organization_brings_no_keys_for_this_one",
)
add(
    "keys that another organization uploaded sign for this one",
    FEDERATION,
    "            if rule.issuer_id == issuer.pk:\n",
    "            if rule.issuer.url == issuer.url:\n",
    f"{EXCHANGE_TESTS}::test_rule_of_another_organization_brings_no_keys_for_this_one",
)
add(
    "a webhook hears of other projects",
    EVENTS,
    "newer = Event.objects.acts().filter(project=found.project, pk__gt",
    "newer = Event.objects.acts().filter(pk__gt",
    f"{EVENT_TESTS}::test_a_subscription_hears_of_its_own_project_only",
)
add(
    "a webhook of some repositories hears of their project",
    "scanning/notifications/cloud_events.py",
    "return not repositories or any(",
    "return not repositories or not name or any(",
    f"{EVENT_TESTS}::test_subscription_to_repositories_has_no_events_of_the_project",
)
add(
    "the last push of a tag goes back with the clock",
    "registry/tags.py",
    "moment=max(timezone.now(), current.pushed_at)",
    "moment=timezone.now()",
    "registry/test_last_push.py::test_time_of_the_last_push_never_goes_back",
)
add(
    "events of open transactions are skipped",
    "registry/audit.py",
    "    open_ = _writers()\n    while",
    "    open_: set[str] = set()\n    while",
    "scanning/test_event_crashes.py::test_an_event_that_commits_later_than_a_newer_one_is_not_skipped",
)
add(
    "a star in a trust rule reaches over a slash",
    TRUST_RULES,
    'return "[^/:]*".join(',
    'return ".*".join(',
    f"{EXCHANGE_TESTS}::test_patterns",
)
add(
    "a key for docker uses the management API",
    "api/authentication.py",
    "    if not actor.management:\n",
    "    if actor.is_anonymous:\n",
    "api/test_matrix.py::test_a_key_for_the_registry_only_gets_nothing",
)
add(
    "a POST that is at work is begun again",
    "api/idempotency.py",
    "own.filter(status=None, created_at__lt=now - AT_WORK).delete()",
    "own.filter(status=None).delete()",
    f"{NOUN_TESTS}::test_a_post_at_work_is_not_begun_again",
)
OTHER_IDS = f"{NOUN_TESTS}::test_ids_of_another_project_are_not_found"
add(
    "an event of another project is undone",
    "api/events.py",
    "found = Event.objects.filter(project=self.project, pk=event).first()",
    "found = Event.objects.filter(pk=event).first()",
    OTHER_IDS,
)
add(
    "a scan of another project is shown",
    "api/scans.py",
    "Scan.objects.filter(project=self.project, pk=scan)",
    "Scan.objects.filter(pk=scan)",
    OTHER_IDS,
)
add(
    "an acceptance of another project is shown",
    "api/acceptances.py",
    "found = Acceptance.objects.filter(project=self.project, pk=pk)",
    "found = Acceptance.objects.filter(pk=pk)",
    OTHER_IDS,
)
add(
    "a notification of another project is shown",
    "api/notifications.py",
    "live = Subscription.objects.live().filter(project=self.project, pk=pk)",
    "live = Subscription.objects.live().filter(pk=pk)",
    OTHER_IDS,
)
add(
    "a deletion of another project is restored",
    "registry/trash/restoring.py",
    "found = Deletion.objects.filter(in_time, project=project, is_purging=False)",
    "found = Deletion.objects.filter(in_time, is_purging=False)",
    OTHER_IDS,
)
add(
    "the same body at another address is the same POST",
    "api/idempotency.py",
    'text = f"{request.method} {request.get_full_path()} ".encode() + body',
    'text = f"{request.method} ".encode() + body',
    f"{NOUN_TESTS}::test_another_post_with_the_same_key_is_refused",
)
add(
    "an Idempotency-Key is kept for ever",
    "api/idempotency.py",
    "    IdempotencyRecord.objects.filter(created_at__lt=now - KEPT).delete()\n",
    "",
    f"{NOUN_TESTS}::test_an_idempotency_key_is_free_after_a_day_or_when_its_process_has_ended",
)
add(
    "a POST of a process that has ended is at work for ever",
    "api/idempotency.py",
    "    own.filter(status=None, created_at__lt=now - AT_WORK).delete()\n",
    "",
    f"{NOUN_TESTS}::test_an_idempotency_key_is_free_after_a_day_or_when_its_process_has_ended",
)
add(
    "two workers make the same deliveries",
    EVENTS,
    "not live.filter(position=found.position).update(",
    "not live.update(",
    f"{EVENT_TESTS}::test_a_worker_that_comes_second_makes_nothing",
)
add(
    "the quota of an organization counts one project",
    "registry/quotas.py",
    "limits[0], sum(sizes.values()), limits[1]",
    "limits[0], sizes[project.pk], limits[1]",
    f"{QUOTA_TESTS}::test_organization_is_full_with_all_its_projects",
)

# ── The console ──────────────────────────────────────────────────────────────────────────────────────────────────────
add(
    "forms need no token of their page",
    "console/views/shared/decorators.py",
    "    checked.who = who\n",
    "    checked.who = who\n    checked.csrf_exempt = True\n",
    "console/test_safety.py::test_every_post_needs_its_token",
)
add(
    "the secret of a refused request is logged",
    "registry/logs.py",
    "match = request.resolver_match or _resolved(request.path_info)",
    "match = request.resolver_match",
    "registry/test_logs.py::test_secret_of_a_request_that_is_refused_before_its_route_is_known_is_not_logged",
)
add(
    "a path with a letter that Django escapes is logged as it is",
    "registry/logs.py",
    "if arg in {path, escaped} else arg",
    "if arg == path else arg",
    "registry/test_logs.py::test_server_errors_and_refused_forms_log_no_secret",
)
add(
    "a description becomes markup",
    "templates/console/parts/_image_head.html",
    "{{ place.image.description }}</div>",
    "{{ place.image.description|safe }}</div>",
    "console/test_safety.py::test_user_texts_are_escaped_on_every_page",
)
add(
    "HTML in a readme becomes markup",
    "console/templatetags/markdown.py",
    '{"html": False}',
    '{"html": True}',
    "console/test_readmes.py::test_hostile_markdown_is_shown_as_text",
)
add(
    "a readme is saved over a newer one",
    "registry/repositories.py",
    'seen.get("readme") != fingerprint(now)',
    "False",
    "console/test_readmes.py::test_readme_opened_by_two_people_is_not_overwritten",
)
add(
    "a cell of a file is a formula",
    "console/views/shared/downloads.py",
    """return f"'{text}" if text.startswith(_FORMULA) else text""",
    "return text",
    "console/test_downloads.py::test_spreadsheet_reads_no_cell_as_a_formula",
)
add(
    "the file of an image has the events of its project",
    "console/views/audit_log.py",
    '''    """The same as CSV, however much it is."""
    wanted = AuditLogFilter(place.request.GET).wanted(place.project, place.maybe_repository, place.maybe_image)''',
    """    wanted = AuditLogFilter(place.request.GET).wanted(place.project, None, None)""",
    "console/test_audit_log.py::test_file_has_the_events_of_its_page_alone",
)
add(
    "the page and the file of a CVE have findings of other people's images",
    "console/queries/cves.py",
    "        found = layout.repositories_of(actor)\n",
    "        found = Repository.objects.all()\n",
    "console/test_cves.py::test_csv_file_has_the_filtered_rows",
    "console/test_cves.py::test_page_lists_only_visible_images",
)
add(
    "a form that was sent before the sign-in acts when it comes back",
    "console/views/shared/kept_forms.py",
    '    return request.method == "GET" and _read(request) is not None and request.user.is_authenticated',
    "    found = _read(request)\n"
    '    if request.method != "GET" or found is None or not request.user.is_authenticated:\n'
    "        return False\n"
    '    request.method, request.POST = "POST", QueryDict(found)\n'
    "    return True",
    "console/test_kept_forms.py::test_a_form_comes_back_after_the_sign_in_and_is_sent_by_hand",
)
add(
    "a service account of another project is found",
    "registry/members.py",
    "account = found.filter(Q(project=None) | Q(project=project)).first()",
    "account = found.first()",
    "console/test_service_accounts.py::test_account_of_a_project_is_not_found_under_another_project",
)
add(
    "signing in leads to another host",
    "console/views/shared/pages.py",
    'return wanted if is_ours and wanted.startswith("/") else "/"',
    'return wanted or "/"',
    "console/test_signing_in.py::test_sign_in_never_redirects_to_another_host",
)
add(
    "who may only look changes things",
    "console/views/shared/decorators.py",
    'if (post if post and request.method == "POST" else action) not in place.actions:',
    "if action not in place.actions:",
    "console/test_matrix.py::test_changes_to_a_project",
)

# ── Slow clients ─────────────────────────────────────────────────────────────────────────────────────────────────────
WORKER, WORKER_TESTS = "registry/server/worker.py", "registry/server/test_worker.py"
add(
    "one network takes every thread with long bodies",
    WORKER,
    "self.transfers = Shares(threads - threads // 8, threads // 4)",
    "self.transfers = Shares(threads, threads)",
    f"{WORKER_TESTS}::test_one_address_cannot_use_all_transfers",
)
add(
    "one network has every turn",
    WORKER,
    "if not self.turns.begin(connection.network, connection):",
    "if not self.turns.begin(connection.fd, connection):",
    f"{WORKER_TESTS}::test_busy_address_does_not_delay_another_address",
)
add(
    "answers that are not read fill the memory",
    "registry/server/connections.py",
    "        self.keep(sum(map(len, self._out)))\n",
    "",
    f"{WORKER_TESTS}::test_unread_answers_do_not_fill_the_memory",
)
add(
    "each byte of a head begins the time limit again",
    "registry/server/exchanges.py",
    "    if not connection.head:\n",
    "    if True:\n",
    f"{WORKER_TESTS}::test_request_head_and_form_have_a_total_time_limit",
)
add(
    "a connection is closed with unread bytes",
    WORKER,
    "            connection.linger()\n            self._wait(connection, READ)\n",
    "            self._close(connection)\n",
    f"{WORKER_TESTS}::test_answer_reaches_a_client_that_still_sends",
)
add(
    "what follows an unread body is a request",
    "registry/server/exchanges.py",
    "if not may_stay or not self._body_has_been_read():",
    "if not may_stay:",
    f"{WORKER_TESTS}::test_unread_body_is_not_read_as_the_next_request",
)
add(
    "a key without a right has its manifest read",
    "registry/v2/manifests.py",
    "if self.token is None:",
    "if self.token is None and not request.headers:",
    "registry/v2/test_http.py::test_a_key_without_the_right_to_push_is_refused_before_the_body_is_read",
)
add(
    "a user takes every thread with long bodies",
    "registry/v2/http.py",
    "TRANSFERS = Shares(settings.WEB_THREADS - settings.WEB_THREADS // 8, settings.WEB_THREADS // 4)",
    "TRANSFERS = Shares(settings.WEB_THREADS, settings.WEB_THREADS)",
    "registry/v2/test_http.py::test_user_at_the_limit_of_transfers_is_still_answered",
)

THREADS, THREAD_TESTS = "registry/server/threads.py", "registry/server/test_shares.py"
ANSWERS, ANSWER_TESTS = "registry/server/answers.py", "registry/server/test_answers.py"
add(
    "a parked thread keeps its database connection",
    THREADS,
    "            self._let_go()\n",
    "            pass\n",
    f"{THREAD_TESTS}::test_thread_lets_go_before_it_parks_and_not_while_it_leads",
)
add(
    "a connection that was kept for long is used",
    "registry/v2/handler.py",
    "        renew_connection()\n        try:",
    "        try:",
    "registry/v2/test_handler.py::test_kept_connection_is_renewed_before_a_request",
)
add(
    "a closed connection works",
    "registry/database/postgresql/base.py",
    "            return not self.closed\n",
    "            return True\n",
    "registry/test_pools.py::test_connection_that_was_closed_a_moment_ago_does_not_work",
)
add(
    "every answer has the time of the first one",
    ANSWERS,
    "_date(int(time.time()))",
    "_date(0)",
    f"{ANSWER_TESTS}::test_each_answer_has_the_time_of_its_own_second",
)
add(
    "an error has the length of the answer that it replaces",
    ANSWERS,
    "code, self.length = int(status[:3]), None",
    "code = int(status[:3])",
    f"{ANSWER_TESTS}::test_error_replaces_an_answer_that_has_not_begun",
)
add(
    "an error follows an answer that has begun",
    ANSWERS,
    "        if exc_info is not None and self.has_begun:\n            raise exc_info[1]\n",
    "",
    f"{ANSWER_TESTS}::test_error_replaces_an_answer_that_has_not_begun",
)
add(
    "a body is longer than its length",
    ANSWERS,
    "            data = data[:left]\n",
    "            pass\n",
    f"{ANSWER_TESTS}::test_a_client_reads_what_it_would_read_of_gunicorn",
)

# ── Random sequences of operations ───────────────────────────────────────────────────────────────────────────────────
MACHINE = "registry/test_state_machine.py"
add(
    "a lease that is nearly over is not renewed",
    BLOBS,
    "leased_until < now + LEASE / 2:",
    "leased_until < now:",
    MACHINE,
)
add(
    "what is in Recovery keeps no bytes",
    PURGE,
    "        _delete_manifests(current.project_id, Manifest.objects.filter(deletion=current))\n",
    "        _delete_manifests(current.project_id, Manifest.objects.filter(image=current.image_id))\n",
    MACHINE,
)
add(
    "a purge reviews no blob",
    PURGE,
    "        blobs.review(named, timezone.now(), project_id)\n",
    "",
    MACHINE,
)
add(
    "a digest goes without its tags",
    DELETE,
    "named = _tags_of(image, going)",
    'named = [tag for tag in _tags_of(image, going) if tag.name > "2"]',
    MACHINE,
)
