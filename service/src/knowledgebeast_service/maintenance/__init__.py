"""Tasks that run as a Job beside or instead of the service: `knowledgebeast maintain <task>`."""
