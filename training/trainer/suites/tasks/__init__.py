"""What the utility, code and paper suites ask, and how their answers are read. Pure."""
