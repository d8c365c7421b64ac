"""HTTP only: routes, schemas, limits and problem+json. No decision of the search or the storage is made here."""
