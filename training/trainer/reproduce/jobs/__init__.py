"""What is trained and measured: the grid, its jobs, who works through them."""
