"""HTML in texts of shops: is there any, and the same text without it."""

from __future__ import annotations

import html
import re
from html.entities import html5

_BLOCKS = (
    *("address", "article", "aside", "blockquote", "br", "center", "dd", "div", "dl", "dt", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "iframe", "img", "li", "main", "nav", "ol", "option", "p"),
    *("pre", "section", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "video"),
)
_INLINE = (
    *("a", "abbr", "b", "big", "button", "cite", "code", "del", "em", "font", "i", "input", "ins", "label", "mark"),
    *("meta", "link", "q", "s", "script", "small", "span", "strike", "strong", "style", "sub", "sup", "tt", "u"),
    *("body", "head", "html", "title"),
)
_TAG = re.compile(rf"</?({'|'.join((*_BLOCKS, *_INLINE))})(?=[\s/>])[^<>]*>", re.IGNORECASE)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MOST_LAYERS = 3
"""``&amp;lt;b&amp;gt;`` is a tag that was escaped twice."""


def has_markup(text: str) -> bool:
    """Whether a text holds a tag or an entity of HTML; ``size < 38`` and ``R&B;`` are none."""
    if "<" in text and (_TAG.search(text) or _has_comment(text)):
        return True
    return "&" in text and any(_is_entity(match[1]) for match in _ENTITY.finditer(text))


def clean_markup(text: str) -> str:
    """The text that a reader of the HTML sees, on one line; a text without HTML is returned as it is."""
    for _ in range(_MOST_LAYERS):
        if not has_markup(text):
            return text
        text = _TAG.sub(_in_place_of, _UNSEEN.sub(" ", text))
        text = _ENTITY.sub(lambda match: html.unescape(match[0]) if _is_entity(match[1]) else match[0], text)
        text = " ".join(text.split())
    return text


def _has_comment(text: str) -> bool:
    """Whether a comment begins and ends; one that never ends hides nothing here, and stays as it is written."""
    start = text.find("<!--")
    return start >= 0 and text.find("-->", start + len("<!--")) >= 0


def _is_entity(name: str) -> bool:
    return name.startswith("#") or f"{name};" in html5


def _in_place_of(tag: re.Match[str]) -> str:
    """Words of two blocks stay apart; letters around ``<b>`` stay together."""
    return " " if tag[1].lower() in _BLOCKS else ""
