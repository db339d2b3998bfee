"""The people's door: pages in the browser. No models."""
