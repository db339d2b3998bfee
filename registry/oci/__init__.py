"""What a thing is: the OCI distribution and image specifications 1.1 as pure functions.

Nothing here knows Django, HTTP or a database; only the standard library is imported.
"""
