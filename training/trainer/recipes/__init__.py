"""`recipes`: which training mix makes a safety adapter that refuses harm and little else."""
