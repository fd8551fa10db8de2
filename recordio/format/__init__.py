"""The format: bytes to objects and back, as FORMAT.md says. No I/O."""
