"""Digests: strict for stored content, and the general grammar for foreign content."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci import digests

HEX = hashlib.sha256(b"").hexdigest()
HEX512 = hashlib.sha512(b"").hexdigest()
ALGORITHMS = st.sampled_from(["sha256", "sha512"])
NEARLY_DIGESTS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["sha256", "sha512", "sha384", "md5", "SHA256", "sha256+b64", "", "sha256\n"]),
    st.sampled_from([":", "::", "", "=", " :"]),
    st.text("0123456789abcdefA-\n\N{ARABIC-INDIC DIGIT THREE}", max_size=6).map(lambda tail: HEX[len(tail) :] + tail)
    | st.text(max_size=140),
)


@given(st.binary(max_size=200), ALGORITHMS)
def test_parsed_digest_equals_its_text(content, algorithm):
    digest = digests.of(content, algorithm)
    assert str(digest) == f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    assert digests.parse(str(digest)) == digest
    assert digests.is_wellformed(str(digest))
    assert digests.is_of_nothing(digest) == (content == b"")


@given(st.lists(st.binary(max_size=50), max_size=5), ALGORITHMS)
def test_content_is_hashed_in_pieces(pieces, algorithm):
    running = digests.new_hash(algorithm)
    for piece in pieces:
        running.update(piece)
    assert f"{algorithm}:{running.hexdigest()}" == str(digests.of(b"".join(pieces), algorithm))


@given(NEARLY_DIGESTS | st.text(max_size=300))
def test_any_text_is_a_digest_or_is_refused(text):
    lengths = {"sha256": 64, "sha512": 128}
    algorithm, _, encoded = text.partition(":")
    good = len(encoded) == lengths.get(algorithm) and set(encoded) <= set("0123456789abcdef")
    try:
        digest = digests.parse(text)
    except digests.InvalidDigest:
        assert not good
    else:
        assert good
        assert str(digest) == text
        assert (digest.algorithm, digest.encoded) == (algorithm, encoded)


WRONG = [
    "",
    ":",
    "sha256",
    "sha256:",
    HEX,
    f":{HEX}",
    f"sha256:{HEX.upper()}",
    f"SHA256:{HEX}",
    f"Sha256:{HEX}",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256:{HEX}\n",
    f"sha256:{HEX[:-1]}\n",
    f" sha256:{HEX}",
    f"sha256: {HEX[1:]}",
    f"sha256\n:{HEX}",
    f"sha256:{HEX[:-1]}\0",
    f"sha256:{HEX[:-1]}g",
    f"sha256:{HEX[:-1]}\N{ARABIC-INDIC DIGIT THREE}",
    f"sha256:{HEX[:-1]}\N{FULLWIDTH DIGIT THREE}",
    f"sha256::{HEX}",
    f"sha256:{HEX}:",
    f"sha512:{HEX}",
    f"sha256:{HEX512}",
    f"sha384:{hashlib.sha384(b'').hexdigest()}",
    f"md5:{hashlib.md5(b'').hexdigest()}",
    f"sha3_256:{HEX}",
    f"blake3:{HEX}",
    "sha256:../../../../etc/passwd",
    "sha256:" + "../" * 21 + "a",
    f"sha256:{'a' * 1_000_000}",
    "a" * 1_000_000,
    f"sha256:0x{HEX[2:]}",
    f"sha256:{HEX[:-2]}_0",
    f"sha256:+{HEX[1:]}",
    f"sha256:\ud800{HEX[1:]}",
]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text)[:40])
def test_unsupported_digests_are_refused_with_the_reason(text):
    with pytest.raises(digests.InvalidDigest, match="digest"):
        digests.parse(text)


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX512}"])
def test_both_registered_algorithms_are_accepted(text):
    assert str(digests.parse(text)) == text
    assert digests.is_of_nothing(digests.parse(text))


@given(st.sampled_from(["sha256", "sha512"]), st.integers(0, 2**256 - 1))
def test_all_hexadecimal_digits_of_the_right_number_are_a_digest(algorithm, number):
    length = {"sha256": 64, "sha512": 128}[algorithm]
    text = f"{algorithm}:{number:0{length}x}"
    assert str(digests.parse(text)) == text
    assert not digests.is_of_nothing(digests.parse(text)) or number in (int(HEX, 16), int(HEX512, 16))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha384", "SHA256", "sha256\n", "", "shake_128", "sha512_256"])
def test_other_algorithms_have_no_hash(algorithm):
    with pytest.raises(digests.InvalidDigest):
        digests.new_hash(algorithm)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"sha256:{HEX}", True),
        ("sha256:abc", True),
        ("sha256+b64:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=", True),
        ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", True),
        ("blake3:abc", True),
        ("a.b_c-d+e:F=_-", True),
        ("Sha256:abc", False),
        ("sha256:", False),
        (":abc", False),
        ("sha256", False),
        ("sha256+:abc", False),
        ("+sha256:abc", False),
        ("sha256++b64:abc", False),
        ("sha256:abc\n", False),
        ("sha256:a/b", False),
        ("sha256:a b", False),
        ("sha256:a:b", False),
        ("sha256:\N{ARABIC-INDIC DIGIT THREE}", False),
        ("sha256:é", False),
        (f"sha256:{'a' * 248}", True),
        (f"sha256:{'a' * 249}", False),
        (f"sha256:{'a' * 1_000_000}", False),
        ("a-" * 100_000 + "!", False),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_general_digests_follow_the_grammar(text, expected):
    assert digests.is_wellformed(text) is expected


def reads_as_digest(text: str) -> bool:
    """Return whether the text matches the general grammar, by a letter-wise parser, with at most 255 characters."""
    algorithm, colon, encoded = text.partition(":")
    for separator in "+._-":
        algorithm = algorithm.replace(separator, " ")
    words = algorithm.split(" ")
    lower, all_letters = set(string.ascii_lowercase + string.digits), set(string.ascii_letters + string.digits + "=_-")
    return (
        len(text) <= 255
        and bool(colon)
        and all(word and set(word) <= lower for word in words)
        and bool(encoded)
        and set(encoded) <= all_letters
    )


@given(st.text("ab1+._-:=A/\n \N{ARABIC-INDIC DIGIT THREE}", max_size=12) | NEARLY_DIGESTS)
def test_general_digest_is_accepted_exactly_by_the_grammar(text):
    assert digests.is_wellformed(text) == reads_as_digest(text)


@given(st.text(max_size=20))
def test_a_reference_with_a_colon_is_a_digest(text):
    assert digests.is_digest(text) == (":" in text)
