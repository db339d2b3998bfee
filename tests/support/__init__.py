"""What tests share: images, clients, servers, people, pages. Nothing here is a test."""

#: The password of everyone in the tests.
PASSWORD = "correct horse battery"
