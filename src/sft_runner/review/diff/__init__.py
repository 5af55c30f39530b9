"""What a change does to every recipe that it touches: two trees, each resolved and planned, and their difference."""
