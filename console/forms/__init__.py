"""The console's forms, one module a noun."""
