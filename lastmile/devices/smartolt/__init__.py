"""The driver of SmartOLT: ONUs behind OLTs of an account at smartolt.com, over its REST API.

Contract: public clients of the API (docs/operations/controllers/smartolt.md names them). Not verified against SmartOLT.

An account has a budget of calls an hour, so no order polls. A line reads the list of unconfigured ONUs, which all lines
of an OLT share for a minute, and makes one call. What SmartOLT knows of an ONU is read only where that call is refused,
or the ONU is not in the list. Of the words of a refusal, only those for no such ONU and for no calls left are read.
"""
