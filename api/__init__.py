"""The management API, /api/v1/: HTTP for programs that manage what the console manages. JSON in, JSON out."""
