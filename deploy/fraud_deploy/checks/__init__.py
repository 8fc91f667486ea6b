"""One module for each area of deploy/; each has `checks()`."""
