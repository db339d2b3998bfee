"""What queries share."""
