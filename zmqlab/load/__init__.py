"""The load client: order flow, open-loop schedule, exactly-once requester, measurement, report.

:mod:`.requester` and :mod:`.settings` are free of numpy, so that a synchronous client can use them cheaply;
nothing is imported here for the same reason.
"""
