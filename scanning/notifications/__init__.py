"""Notifications about scans: who is told, what, and through which channel."""
