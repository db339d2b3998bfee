"""Trivy: the program, its sandbox, its reports and its vulnerability database."""
