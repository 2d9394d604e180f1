"""Servers: their hosts, logins and certificates, settings of all clients, downloads, silence."""
