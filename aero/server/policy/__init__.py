"""Who may do how much: rules over names, addresses, numbers and times that are passed in. No sockets, no clock."""
