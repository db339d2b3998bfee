"""The tests mirror the source: tests/<app>/test_<module>.py. tests/clients has the tests with real clients."""
