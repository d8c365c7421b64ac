"""For all tests: a property holds however busy the machine is, so no example has a deadline of its own."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
