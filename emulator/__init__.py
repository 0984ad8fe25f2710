"""What a datapath is: formats, rounding, the exact arithmetic, datapaths, their counts and their cost."""
