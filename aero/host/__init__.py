"""What this machine is and allows: processes, locks, privileges, facts. Knows no protocol and no roles."""
