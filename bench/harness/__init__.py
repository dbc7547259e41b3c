"""What bench/run is made of: it builds and starts the systems, loads them, and prints what they cost."""
