"""Do the tests notice? ``python -m tests.planted`` plants defects into copies of the source, one at a time, and looks.

``bugs.py`` has the list: what is replaced by what, and the tests that must fail then. Each of them passes without the
defect, which is tried first. A defect that survives is a test that is missing.
"""
