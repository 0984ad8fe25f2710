"""How it runs fast: the same arithmetic over arrays, from one source for CPU and GPU."""
