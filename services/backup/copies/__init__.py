"""Copies of snapshots off the machine: in a folder of another disk, or in a bucket."""
