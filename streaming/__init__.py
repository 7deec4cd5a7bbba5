"""Kinesis to velocity state in the online store: one handler, run by Lambda on AWS and by a worker elsewhere."""
