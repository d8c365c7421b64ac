"""How good the answers are: judged queries against a running service, or one inside this process."""
