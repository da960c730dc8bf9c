"""Encryption of the payloads in Temporal, and the codec server that decrypts them for authorised users."""
