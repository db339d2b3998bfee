"""What people may type, and what is wrong with it."""
