"""The console's views, one module a noun."""
