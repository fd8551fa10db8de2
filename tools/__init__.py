"""The command line: parse, call the library, print. Knows nothing of the format."""
