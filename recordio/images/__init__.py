"""Pictures: headers, pixels, sizes and boxes, and encoding anew."""
