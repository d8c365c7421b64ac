"""Open-model load: requests start when they are due, whether or not earlier ones have been answered.

A closed loop would send less exactly while the service is slow, and so hide the outage it is meant to measure
(coordinated omission).
"""
