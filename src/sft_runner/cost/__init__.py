"""What a run costs, known before it starts: memory, disk, time and price, from the architecture's numbers alone."""
