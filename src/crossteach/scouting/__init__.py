"""Many models before any training: how they compare, who could teach whom, which teacher first."""
