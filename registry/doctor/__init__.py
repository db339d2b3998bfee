"""The connection doctor: probes the deployed address through its proxy, and what KCR needs.

    visit      one run, and the type of a probe       results    what a probe found
    address    probes of the deployed address         proxies    the line to change in each kind of proxy
    services   probes of database, queue, storage …   wire       HTTP with control over time
    passes     who may use the diagnostic address     content    what that address sends
    runs       runs the probes, stores the results

``manage.py doctor`` and a page of the console run it. Probes of other apps: settings.DOCTOR_PROBES.
"""
