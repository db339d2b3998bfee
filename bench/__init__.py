"""Measures this installation beside another registry. Nothing here is asserted: machines differ, ratios tell."""
