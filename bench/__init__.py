"""Benchmarks. They print figures and ratios, and assert nothing, because machines differ."""
