"""Recording: Incidents, the object's status, events and metrics. What is not written down has not happened."""
