"""How JPEG and PNG files begin and end, and how large a picture may be; decodes nothing."""

from __future__ import annotations

JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# Source: ours; 8000 x 8000 pass, and Pillow begins to warn of bombs at 89 million.
PIXELS_MAX = 80_000_000
