"""Pictures: headers, decoding, pixels, boxes, and re-encoding."""
