"""/ui: a page where a person can search a project and see how the service is. Made on the server; it runs no script.

The page is a client of the HTTP API, called inside this process with the caller's own key and address: what a key may
not see in the API it does not see here, and the same limits hold.
"""
