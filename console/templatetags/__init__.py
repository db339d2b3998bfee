"""Words, numbers, times and pictures as every page shows them."""
