"""What vectors and distances say: arrays in, findings out; nothing here reads or writes."""
