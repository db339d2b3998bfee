"""The tests. They mirror the source: tests/<app>/test_<module>.py; tests/clients holds those with real clients."""
