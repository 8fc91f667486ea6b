"""The gateway before the servers: settings in, an Envoy configuration out. Pure: nothing here opens a connection."""
