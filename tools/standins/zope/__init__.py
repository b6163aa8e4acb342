"""Stands in for the namespace of zope.interface and zope.event inside aero.pyz."""
