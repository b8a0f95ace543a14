"""Names of users: SASLprep, and names that no user can have."""

import pytest

from mainstem.authentication.names import user_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice", "alice"),
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("CN=a, O=b", "CN=a, O=b"),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_names_are_prepared_as_rfc_4013_says(text: str, name: str) -> None:
    assert user_name(text) == name
    assert user_name(name) == name


@pytest.mark.parametrize(
    "text", ["", "\u00ad", "a\x00b", "a\x7f", "a\nb", "\u0627a", "\ue000", "\ud800", "x" * 256, "\ufdfa" * 60]
)
def test_names_that_no_user_can_have(text: str) -> None:
    with pytest.raises(ValueError, match="name of a user"):
        user_name(text)
