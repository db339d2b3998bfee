"""Helpers of the tests: images, clients, servers, people, pages."""

#: The password of everyone in the tests.
PASSWORD = "correct horse battery"
