"""From a document to a searchable one: chunking, durable acceptance, and the worker that embeds and publishes."""
