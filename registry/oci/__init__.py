"""The OCI distribution and image specifications 1.1 as pure functions.

This package imports only the standard library.
"""
