"""The driver of GenieACS, an ACS for CPEs (TR-069), over its northbound interface (NBI).

Contract: GenieACS 1.2.16, recorded. The stand-in `lastmile.devstack.genieacs` obeys the same recordings.

A write is verified by reading. GenieACS answers 200 as well where it has skipped a parameter in silence, or has sent
nothing because its own copy of the value is equal. So each write is preceded by a read task in the same session. Only a
value that is equal, and that is no older than the read task, is in the CPE.

No password goes through the NBI, which has no authentication and shows every value.
"""
