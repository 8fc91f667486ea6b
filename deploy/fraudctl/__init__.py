"""The one command line; every command is thin and calls a package."""
