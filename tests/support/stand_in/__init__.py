"""Programs that tests have torchrun start: in a folder of their own, since a script's folder leads its import path."""
