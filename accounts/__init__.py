"""Who: organizations, projects, people, their roles, access keys and tokens. No views, no HTTP."""
