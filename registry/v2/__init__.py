"""The registry's door for docker: HTTP of the OCI distribution specification 1.1, and nothing that decides."""
