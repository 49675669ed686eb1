"""The torch that the package is built for. A test compares it with Makefile and pyproject.toml."""

BUILT_WITH = "2.11.0"
