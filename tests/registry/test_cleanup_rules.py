"""Rules of cleanup policies: kept tags, reasons of deletions, and replay of the past."""

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cleanup import replay, rules
from registry.cleanup.replay import DigestPeriod, TagPeriod
from registry.cleanup.rules import TagVersion, Untagged
from registry.models import CleanupPolicy

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
SUBJECT = f"sha256:{'a' * 64}"


def days(number: float) -> timedelta:
    return timedelta(days=number)


def version(name: str, age: float, number: int = 1, **more: object) -> TagVersion:
    return TagVersion(number, name, f"sha256:{name}", NOW - days(age), **more)


def going(
    policy: CleanupPolicy, *tags: TagVersion, untagged: tuple[Untagged, ...] = (), subjects: set[str] = frozenset()
):
    verdicts = rules.judge(policy, tags, untagged, subjects, NOW)
    return {verdict.tag or verdict.digest: verdict.why.reason for verdict in verdicts if verdict.will_delete}


def test_policy_without_rules_deletes_nothing():
    assert going(CleanupPolicy(), version("old", 10_000), untagged=(Untagged("d", NOW - days(10_000)),)) == {}


@pytest.mark.parametrize(("age", "goes"), [(29.999, False), (30, True), (31, True)])
def test_tag_is_deleted_on_the_day_it_is_too_old(age, goes):
    assert bool(going(CleanupPolicy(tag_days=30), version("a", age))) == goes


def test_only_the_newest_stay_without_another_rule():
    tags = [version(f"t{age}", age, age) for age in range(1, 6)]
    assert list(going(CleanupPolicy(keep_last=2), *tags)) == ["t3", "t4", "t5"]


def test_newest_tags_stay_at_any_age():
    tags = [version(f"t{age}", age, age) for age in (100, 200, 300)]
    assert list(going(CleanupPolicy(keep_last=2, tag_days=30), *tags)) == ["t300"]


def test_age_decides_beyond_the_newest_tags():
    tags = [version(f"t{age}", age, age) for age in (1, 2, 40)]
    assert list(going(CleanupPolicy(keep_last=1, tag_days=30), *tags)) == ["t40"]


def test_patterns_match_whole_names_and_do_not_count_among_the_newest():
    policy = CleanupPolicy(keep_last=1, keep_patterns=["release-*", "v[0-9]"])
    tags = [version(name, age, age) for age, name in enumerate(("release-1", "v1", "a", "v10", "Release-2"), 1)]
    assert list(going(policy, *tags)) == ["v10", "Release-2"]


def test_tag_with_uncounted_pulls_is_unknown_and_not_unused():
    policy = CleanupPolicy(unpulled_days=30)
    assert going(policy, version("a", 400)) == {}
    assert going(policy, version("a", 400, wanted_at=NOW - days(31))) == {"a": "unpulled"}
    (verdict,) = rules.judge(policy, [version("a", 400, wanted_at=NOW - days(31))], (), set(), NOW)
    assert verdict.why.facts == {"days": 30, "since": (NOW - days(31)).isoformat()}
    assert going(policy, version("a", 400, wanted_at=NOW - days(29))) == {}
    assert going(policy, version("a", 29, wanted_at=NOW - days(60))) == {}


def test_tagged_signature_stays_with_its_digest_and_does_not_count_among_the_newest():
    policy = CleanupPolicy(keep_last=1)
    signature, newest, old = version(f"{SUBJECT.replace(':', '-')}.sig", 1), version("new", 2, 2), version("old", 3, 3)
    assert list(going(policy, signature, newest, old, subjects={SUBJECT})) == ["old"]
    assert list(going(policy, signature, newest, old)) == ["new", "old"]


def test_untagged_digest_is_deleted_some_days_after_its_last_tag():
    fresh, old = Untagged("fresh", NOW - days(6)), Untagged("old", NOW - days(7))
    assert list(going(CleanupPolicy(untagged_days=7), untagged=(fresh, old))) == ["old"]


# ── For every policy and every image ─────────────────────────────────────────────────────────────────────────────────
numbers = st.none() | st.integers(1, 20)
policies = st.builds(
    CleanupPolicy,
    keep_last=st.none() | st.integers(1, 5),
    keep_patterns=st.lists(st.sampled_from(["a*", "?b", "c", "*"]), max_size=2),
    tag_days=numbers,
    unpulled_days=numbers,
    untagged_days=numbers,
)
moments = st.integers(0, 30 * 24).map(lambda hours: NOW - timedelta(hours=hours))
names = st.text("abc", min_size=1, max_size=2)
tags = st.lists(st.tuples(names, moments, st.none() | moments), max_size=12, unique_by=lambda tag: tag[0]).map(
    lambda found: [
        TagVersion(number, name, f"sha256:{number % 4}", since, wanted)
        for number, (name, since, wanted) in enumerate(found)
    ]
)


@given(policies, tags)
def test_no_policy_deletes_what_its_rules_keep(policy, found):
    verdicts = {verdict.tag_version: verdict for verdict in rules.judge(policy, found, (), set(), NOW)}
    assert verdicts.keys() == {tag.id for tag in found}
    assert all(verdict.why.reason for verdict in verdicts.values())
    of_no_pattern = []
    for tag in sorted(found, key=lambda tag: (tag.since, tag.id), reverse=True):
        if any(fnmatchcase(tag.name, pattern) for pattern in policy.keep_patterns):
            assert not verdicts[tag.id].will_delete
        else:
            of_no_pattern.append(tag)
    for tag in of_no_pattern[: policy.keep_last or 0]:
        assert not verdicts[tag.id].will_delete
    for tag in of_no_pattern[policy.keep_last or 0 :]:
        is_old = policy.tag_days is not None and tag.since <= NOW - days(policy.tag_days)
        is_unused = (
            policy.unpulled_days is not None
            and tag.wanted_at is not None
            and max(tag.wanted_at, tag.since) <= NOW - days(policy.unpulled_days)
        )
        alone = policy.keep_last is not None and policy.tag_days is None and policy.unpulled_days is None
        assert verdicts[tag.id].will_delete == (is_old or is_unused or alone)


intervals = st.lists(st.tuples(names, moments, st.none() | moments), max_size=10).map(
    lambda found: [
        TagPeriod(number, name, f"sha256:{number % 4}", start, max(start, end) if end else None)
        for number, (name, start, end) in enumerate(found)
    ]
)


@given(policies, intervals, st.integers(0, 20))
def test_replay_deletes_each_existing_object_once(policy, found, nights):
    digest_periods = [DigestPeriod(digest, NOW - days(31)) for digest in {one.digest for one in found}]
    replayed = replay.replay(policy, found, digest_periods, [NOW - days(day) for day in range(nights, -1, -1)])
    for deletion in replayed:
        if deletion.tag:
            assert any(
                one.covers(deletion.at) and (one.name, one.digest) == (deletion.tag, deletion.digest) for one in found
            )
        assert deletion.tagged_at is None or deletion.tagged_at > deletion.at
    digests = [deletion.digest for deletion in replayed if not deletion.tag]
    assert len(digests) == len(set(digests))
    assert len(replayed) - len(digests) <= len(found)


@given(policies, intervals)
def test_replay_of_tonight_equals_the_run_of_tonight(policy, found):
    there = [TagVersion(one.id, one.name, one.digest, one.start) for one in found if one.covers(NOW)]
    expected = [verdict for verdict in rules.judge(policy, there, (), set(), NOW) if verdict.will_delete]
    replayed = replay.replay(policy, found, [], [NOW])
    assert [(one.tag, one.digest, one.why) for one in replayed] == [
        (verdict.tag, verdict.digest, verdict.why) for verdict in expected
    ]


def test_replay_lists_later_pulls():
    pulled, tagged = NOW - days(2), NOW - days(3)
    found = [
        TagPeriod(1, "a", "x", NOW - days(60), None, pulled),
        TagPeriod(2, "b", "y", NOW - days(60), NOW - days(5)),
        TagPeriod(3, "c", "y", tagged),
    ]
    nights = [NOW - days(day) for day in range(40, -1, -1)]
    first, second = sorted(replay.replay(CleanupPolicy(tag_days=30), found, [], nights), key=lambda one: one.tag)
    assert (first.tag, first.at, first.pulled_at, first.tagged_at) == ("a", NOW - days(30), pulled, None)
    assert (second.tag, second.at, second.pulled_at, second.tagged_at) == ("b", NOW - days(30), None, tagged)


def test_replay_deletes_a_digest_after_its_own_deletion_of_the_tag():
    found = [TagPeriod(1, "a", "x", NOW - days(60))]
    nights = [NOW - days(day) for day in range(60, -1, -1)]
    tag, digest = replay.replay(
        CleanupPolicy(tag_days=10, untagged_days=5), found, [DigestPeriod("x", NOW - days(60))], nights
    )
    assert (tag.tag, tag.at) == ("a", NOW - days(50))
    assert (digest.tag, digest.digest, digest.at) == ("", "x", NOW - days(45))


# ── Nights without a change are skipped ──────────────────────────────────────────────────────────────────────────────
ages = st.floats(-2, 14).map(lambda age: NOW - days(round(age * 4) / 4))
some_names = st.sampled_from(["a", "b", "c", f"{SUBJECT.replace(':', '-')}.sig"])
known_digests = st.sampled_from([SUBJECT, "sha256:b", "sha256:c"])
ended = st.none() | ages
any_policy = st.builds(
    CleanupPolicy,
    keep_last=st.none() | st.integers(1, 3),
    tag_days=st.none() | st.integers(1, 8),
    unpulled_days=st.none() | st.integers(1, 8),
    untagged_days=st.none() | st.integers(1, 8),
    keep_patterns=st.sampled_from([[], ["a"]]),
)


@given(
    any_policy,
    st.lists(
        st.builds(TagPeriod, st.integers(1, 50), some_names, known_digests, ages, ended, ended),
        unique_by=lambda i: i.id,
    ),
    st.lists(
        st.builds(DigestPeriod, known_digests, ages, ended, st.booleans()), unique_by=lambda period: period.digest
    ),
    ended,
)
def test_replay_of_nights_with_changes_equals_replay_of_all_nights(policy, tag_periods, digest_periods, counted_since):
    nights = [NOW - days(age) for age in range(12, -1, -1)]
    quick = replay.replay(policy, tag_periods, digest_periods, nights, counted_since)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_nights_of_change", lambda *given: set(range(len(nights))))
        assert replay.replay(policy, tag_periods, digest_periods, nights, counted_since) == quick
