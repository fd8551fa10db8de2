"""The command line: parse, call the library, print. Nothing here knows the format."""
