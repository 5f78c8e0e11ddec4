"""One student learns: what is asked and checked, the loop, the rate probe, the gate, several teachers, the summary."""
