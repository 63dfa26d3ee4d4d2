"""The commands behind the command line: read, ask the library, write."""
