"""Long messages are sent in parts that are valid each for itself."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangebar_polars.notify.split import LONGEST, split_html, split_text


class Balanced(HTMLParser):
    """Reads HTML, and fails where a tag is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.opened: list[str] = []
        self.text = ""
        #: Each character with the tags around it.
        self.marked: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.marked += [(one, tuple(self.opened)) for one in data if not one.isspace()]


def test_a_short_message_is_one_part() -> None:
    assert split_text("a" * LONGEST) == ["a" * LONGEST]
    assert split_html("<b>" + "a" * (LONGEST - 7) + "</b>") == [
        "<b>" + "a" * (LONGEST - 7) + "</b>"
    ]
    assert split_text("") == split_html("") == split_html("<b></b> ") == []


def test_a_text_without_breaks_is_cut_at_4096() -> None:
    assert [len(one) for one in split_text("a" * 10_000)] == [4096, 4096, 1808]
    # As Telegram counts, a character beyond the basic plane is two.
    assert [len(one) for one in split_text("\U0001f600" * 3000)] == [2048, 952]


def test_lines_are_preferred_over_words_over_characters() -> None:
    text = "x" * 30 + "\n" + "y" * 20 + " " + "z" * 30
    assert split_text(text, 60) == ["x" * 30, "y" * 20 + " " + "z" * 30]
    assert split_text(text.replace("\n", "_"), 60) == ["x" * 30 + "_" + "y" * 20, "z" * 30]


def test_a_line_break_at_the_start_does_not_make_a_short_part() -> None:
    assert split_text("a\n" + "b" * 100, 50)[0] == "a\n" + "b" * 48


TOKENS = st.lists(
    st.one_of(
        st.sampled_from(
            ["<b>", "<i>", '<a href="x">', "</>", "&amp;", "&#39;", " ", "\n", "word "]
        ),
        st.text("abcé\U0001f600", min_size=1, max_size=12),
    ),
    max_size=60,
)


def nested(tokens: list[str]) -> str:
    """Return HTML in which every tag is closed, in order."""
    opened: list[str] = []
    text = ""
    for token in tokens:
        if token == "</>":
            text += f"</{opened.pop()}>" if opened else ""
            continue
        if found := re.match(r"<(\w+)", token):
            if len(opened) == 8:  # the tags alone must leave room for text
                continue
            opened.append(found[1])
        text += token
    return text + "".join(f"</{one}>" for one in reversed(opened))


@given(tokens=TOKENS, longest=st.integers(200, 260))
def test_each_part_is_valid_and_no_character_or_mark_is_lost(
    tokens: list[str], longest: int
) -> None:
    text = nested([one for one in tokens if not one.startswith("<")] + tokens[:20] * 4)
    parts = split_html(text, longest)
    assert all(len(part.encode("utf-16-le")) // 2 <= longest for part in parts)
    marked = [one for part in parts for one in Balanced(part).marked]
    assert marked == Balanced(text).marked


@given(text=st.text("ab \n\U0001f600&<", max_size=300), longest=st.integers(2, 40))
def test_any_text_is_cut_into_parts_that_fit(text: str, longest: int) -> None:
    parts = split_text(text, longest)
    assert all(len(part.encode("utf-16-le")) // 2 <= longest for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
    plain = split_html(html.escape(text), 40)
    assert "".join(html.unescape("".join(plain)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text", ["<" * 9000, "a<b" * 3000, "<b>" * 2000, "&" * 9000, "</b>" * 3000]
)
def test_broken_markup_is_split_too(text: str) -> None:
    parts = split_html(text)
    assert all(parts)
    assert len(parts) < 3000
