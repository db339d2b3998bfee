"""One module a noun: how a person asks for it."""
