"""The main job as one command: three services, a real inbox, 500 recipients, one sick account, one snapshot."""
