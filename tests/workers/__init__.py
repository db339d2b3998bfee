"""Functions that tests run in a separate process beside a server: see ``tests.support.server.Server.work``."""
