"""RTL of units and datapaths: what a datapath is, as synthesizable hardware."""
