"""One module for each dashboard; each has a function `dashboard()` that describes it."""
