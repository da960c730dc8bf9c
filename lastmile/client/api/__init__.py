"""The client of the REST API: the same methods, results and errors as the client that speaks to Temporal."""
