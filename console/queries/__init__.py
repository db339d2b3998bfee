"""What pages show: one function a page, with a number of queries that does not depend on how many rows there are."""
