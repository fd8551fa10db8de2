"""Pictures: headers, decoding, pixels, boxes, and re-encoding."""

from recordio.images.decode import decode_image as decode_image
