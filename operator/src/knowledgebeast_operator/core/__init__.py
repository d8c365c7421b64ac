"""The thinking: values in, values out. Nothing here knows a clock, a client or kopf."""
