"""Pictures as few bytes: WebP under a limit, and Markdown with the picture inside.

Encoding only. The limit keeps event logs small, where previews are stored as metadata.
"""

import base64
import io

from PIL import Image

_QUALITIES = (88, 76, 62, 48)
_SHRINK = 0.8
_MAX_WEBP_SIDE_PX = 16_383
_MEDIA_TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def encode_preview(image: Image.Image, max_bytes: int = 60_000) -> bytes:
    """Encode a picture as WebP of at most `max_bytes`.

    Quality falls first, then the picture shrinks by a fifth at a time: text on it stays readable as long as
    possible.

    Args:
        image: Any mode; transparency is kept.
        max_bytes: Upper limit of the result.

    Returns:
        A WebP file's bytes.

    Raises:
        ValueError: Not even a single pixel fits.
    """
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    picture = image.convert("RGBA" if has_alpha else "RGB")
    if max(picture.size) > _MAX_WEBP_SIDE_PX:
        picture.thumbnail((_MAX_WEBP_SIDE_PX, _MAX_WEBP_SIDE_PX))
    while True:
        for quality in _QUALITIES:
            data = _webp(picture, quality)
            if len(data) <= max_bytes:
                return data
        if picture.size == (1, 1):
            raise ValueError(f"a preview cannot fit into {max_bytes} bytes; a single pixel takes {len(data)}")
        size = (max(1, int(picture.width * _SHRINK)), max(1, int(picture.height * _SHRINK)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)


def markdown_image(data: bytes, alt: str) -> str:
    """Return Markdown that shows the picture from a data URI: nothing has to be fetched.

    Args:
        data: An encoded WebP, PNG, JPEG or GIF.
        alt: Text for those who do not see the picture.

    Raises:
        ValueError: The bytes are of no such format.
    """
    text = " ".join(alt.split()).replace("[", "(").replace("]", ")")
    return f"![{text}](data:{_media_type(data)};base64,{base64.b64encode(data).decode('ascii')})"


def _media_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for start, media_type in _MEDIA_TYPES:
        if data.startswith(start):
            return media_type
    raise ValueError(f"not a WebP, PNG, JPEG or GIF: the first bytes are {data[:12]!r}")


def _webp(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
