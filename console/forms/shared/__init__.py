"""What forms share."""
