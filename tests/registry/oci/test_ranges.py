"""Ranges of downloads, against a simple parser of RFC 9110; ranges of chunks."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci import ranges

NUMBERS = st.integers(0, 40) | st.sampled_from([10**9, 10**18, 10**19 - 1])
PARTS = (
    st.builds("{}-{}".format, NUMBERS, NUMBERS)
    | st.builds("{}-".format, NUMBERS)
    | st.builds("-{}".format, NUMBERS)
    | st.sampled_from(["-", "", "a-b", "1", "1-2-3", "+1-2", "--1", "1--2", "0x1-2", "1_0-20"])
)
HEADERS = st.builds("bytes={}".format, st.lists(PARTS, min_size=1, max_size=4).map(",".join))


def slowly(header: str, size: int) -> list[list[int]] | None:
    """Return the bytes of each satisfiable range of a header, None for an invalid header (RFC 9110, section 14.1.2)."""
    found = []
    for part in header.removeprefix("bytes=").split(","):
        match = re.fullmatch(r"([0-9]*)-([0-9]*)", part)
        if match is None or part == "-":
            return None
        first, last = match.groups()
        if first:
            wanted = [n for n in range(size) if int(first) <= n and (not last or n <= int(last))]
        else:
            wanted = [n for n in range(size) if n >= size - int(last)]
        found.append(wanted)
    return [wanted for wanted in found if wanted]


@given(HEADERS, st.integers(0, 45))
def test_range_agrees_with_a_simple_parser(header, size):
    expected = slowly(header, size)
    if expected == []:
        with pytest.raises(ranges.Unsatisfiable):
            ranges.of_download(header, size)
        return
    found = [list(range(start, end + 1)) for start, end in ranges.of_download(header, size)]
    if expected is None or sum(map(len, expected)) > size:
        assert found == [], "everything, in one piece"
    else:
        assert found == expected


@given(HEADERS, st.integers(0, 45), st.data())
def test_spaces_between_ranges_are_ignored(header, size, data):
    spaced = header.replace(",", data.draw(st.sampled_from([", ", " ,", " , "])))
    try:
        expected = ranges.of_download(header, size)
    except ranges.Unsatisfiable:
        with pytest.raises(ranges.Unsatisfiable):
            ranges.of_download(spaced, size)
    else:
        assert ranges.of_download(spaced, size) == expected


@given(st.text("bytes=-,0123456789 \n٣", max_size=20) | HEADERS | st.text(max_size=60), st.integers(0, 10**13))
def test_every_answered_range_is_within_the_content(header, size):
    try:
        found = ranges.of_download(header, size)
    except ranges.Unsatisfiable:
        return
    assert all(0 <= start <= end < size for start, end in found)
    assert sum(end - start + 1 for start, end in found) <= size


@pytest.mark.parametrize(
    "header",
    ["", "bytes", "bytes=", "items=0-1", "0-1", "bytes=0-1\n", "bytes=0-\N{ARABIC-INDIC DIGIT THREE}", "bytes=1_0-20"],
)
def test_invalid_range_gives_the_whole_content(header):
    assert ranges.of_download(header, 100) == []


def test_numbers_too_long_for_a_size_are_not_a_range():
    """Parsing them would cost more than sending the whole content."""
    assert ranges.of_download(f"bytes=0-{'9' * 100_000}", 100) == []


@pytest.mark.parametrize("count", [1_000, 1_001, 100_000])
def test_many_ranges_are_all_answered_or_give_the_whole_content(count):
    size = 4 * count
    found = ranges.of_download("bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(count)), size)
    assert found in ([], [(2 * n, 2 * n) for n in range(count)])
    assert len(found) <= 1_000


@given(st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1))
def test_parsed_chunk_range_equals_its_text(first, last):
    if first <= last:
        assert ranges.of_chunk(f"{first}-{last}") == (first, last)
    else:
        with pytest.raises(ranges.Unsatisfiable):
            ranges.of_chunk(f"{first}-{last}")


@given(st.text("0123456789-+_ \n\N{ARABIC-INDIC DIGIT THREE}bytes=/*", max_size=12) | st.text(max_size=40))
def test_chunk_range_is_accepted_exactly_as_two_numbers(header):
    match = re.fullmatch(r"([0-9]+)-([0-9]+)", header, re.ASCII)
    try:
        first, last = ranges.of_chunk(header)
    except ranges.Unsatisfiable:
        assert match is None or int(match[2]) < int(match[1])
    else:
        assert match is not None
        assert (first, last) == (int(match[1]), int(match[2]))


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            "-",
            "5",
            "5-",
            "-5",
            "5-4",
            "a-b",
            "0-4\n",
            "\n0-4",
            " 0-4",
            "0 -4",
            "0-4 ",
            "+0-4",
            "0-+4",
            "-0-4",
            "0--4",
        ),
        *(
            "0_0-4",
            "0x0-0x4",
            "0.0-4.0",
            "0-4/10",
            "bytes 0-4/10",
            "bytes=0-4",
            "0-4,5-9",
            "*/10",
            "0-*",
            "\0",
            "0-4\0",
        ),
        *("\N{ARABIC-INDIC DIGIT ZERO}-\N{ARABIC-INDIC DIGIT FOUR}", "0-\N{SUPERSCRIPT FOUR}", "0-" + "9" * 100_000),
    ],
    ids=lambda header: ascii(header)[:24],
)
def test_invalid_chunk_ranges_are_refused(header):
    with pytest.raises(ranges.Unsatisfiable):
        ranges.of_chunk(header)
