"""Mutation tests: ``python -m tests.planted`` plants defects into copies of the source and runs the tests that must fail.

``bugs.py`` has the list: replacements of source text, and the tests that must fail with each. They pass without the
defect, which is tried first. A defect that survives is a test that is missing.
"""
