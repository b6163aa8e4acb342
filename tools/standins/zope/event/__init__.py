"""Stands in for zope.event inside aero.pyz: the list of subscribers that gevent.events notifies."""

subscribers = []


def notify(event):
    """Call every subscriber with the event, in order."""
    for subscriber in subscribers:
        subscriber(event)
