"""What a message says: its text, and the places in it where the user's images stand.

OpenAI's dictionaries give a text or a list of parts. puna keeps the text whole and remembers the
places, so that only code that cares for images has to know of them. The renderer writes an image as
a control token; a text that merely looks like one stays text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from puna.errors import RequestError

_IMAGE_PARTS = ("image", "image_url", "input_image")  # as transformers and OpenAI name them


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture in a user's message: the place in its text, and where the picture itself is."""

    at: int  # characters of the content before it
    # An address, or whatever the image encoder reads; it is no part of what the text says.
    source: object = field(default=None, compare=False)


def cut_at_images(text: str, images: Sequence[Image]) -> list[str | Image]:
    """Return text and images in turns, text first and last; a text may be empty."""
    parts: list[str | Image] = []
    done = 0
    for image in images:
        parts += [text[done : image.at], image]
        done = image.at
    return [*parts, text[done:]]


def require_places(images: Sequence[Image], text: str) -> None:
    """Refuse images that stand outside the text or not in their order."""
    places = [image.at for image in images]
    if places != sorted(places) or any(not 0 <= at <= len(text) for at in places):
        raise RequestError(
            f"message: images stand at {places} in a text of {len(text)} characters; "
            "places inside the text are expected, in order."
        )


def read_content(content: Any, *, where: str) -> tuple[str, tuple[Image, ...]]:
    """Join text parts without adding anything between them; images keep their places."""
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list | tuple):
        raise RequestError(
            f"{where}.content: {type(content).__name__} given; text or a list of parts is expected."
        )
    texts: list[str] = []
    images: list[Image] = []
    length = 0
    for index, part in enumerate(content):
        given = part if isinstance(part, Mapping) else {"text": part}
        kind, text = given.get("type", "text"), given.get("text")
        if kind in _IMAGE_PARTS:
            images.append(Image(at=length, source=_image_source(given)))
        elif kind == "text" and isinstance(text, str):
            texts.append(text)
            length += len(text)
        else:
            raise RequestError(
                f"{where}.content[{index}]: a part of type {kind!r} given; text parts "
                '({"type": "text", "text": "..."}) and image parts are understood. Send one of '
                "them."
            )
    return "".join(texts), tuple(images)


def _image_source(part: Mapping[str, Any]) -> object:
    source = next((part[key] for key in ("image_url", "image", "url") if key in part), None)
    return source.get("url") if isinstance(source, Mapping) else source


def to_parts(text: str, images: Sequence[Image]) -> list[dict[str, Any]]:
    """Write text and images as OpenAI's list of parts."""
    return [_part(part) for part in cut_at_images(text, images) if part != ""]


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part.source, str):
        return {"type": "image_url", "image_url": {"url": part.source}}
    return {"type": "image"} if part.source is None else {"type": "image", "image": part.source}


def refuse_surrogates(text: str, *, where: str) -> None:
    """Refuse halves of surrogate pairs: no tokenizer can write them as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{where}: character {error.start} is half of a surrogate pair; Unicode text is "
            "expected. Decode the source with errors='replace'."
        ) from None
